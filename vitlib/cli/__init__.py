"""The command line, one command per file: `vitlib train`, `eval`, `attend`, `export`.

    main.py      the parser, made of the commands' own, and how errors are told
    train.py, eval.py, attend.py, export.py
                 add_command: a command's options; and the function that does what they ask
    finetune.py  what `vitlib train --weights` is made of
    options.py, describe.py
                 what several commands share: options; lines that they print

What they do with models and data is the library's; here it is asked for and told.
"""

from vitlib.cli.main import main

__all__ = ["main"]
