"""Chapter 14: code that runs, has the right shapes, and is wrong.

Each case is an exercise whose stub is the wrong code itself. Its first mutant, `unchanged`, is that
code, and its diagnosis tells the symptom and an instrument, but not the bug.
"""
