"""The command line, one command per file, from `vitlib train` to `vitlib check`.

    main.py      the parser, put together from the commands, and how errors are shown
    train.py, probe.py, eval.py, attend.py, export.py, check.py
                 add_command, which adds a command's options, and the function that runs it
    finetune.py  the parts of `vitlib train --weights`
    options.py, describe.py
                 what several commands share: options; lines that they print

The work itself is done by the rest of the library; these modules read options and print results.
"""

from vitlib.cli.main import main

__all__ = ["main"]
