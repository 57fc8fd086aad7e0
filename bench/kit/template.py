"""Fills configuration files in.

`@NAME@` stands for a value, `@I@` for a number within the lines between `@REPEAT@` and `@END@`. Both marks stand on lines
of their own, as comments of the language at hand.
"""

import re

Values = dict[str, object]

PLACE = re.compile(r"@([A-Z][A-Z0-9_]*)@")


def fill(text: str, values: Values, repeat: int) -> str:
    """`text` with its blocks repeated and its places filled in. An unknown name is a mistake of the file."""
    lines: list[str] = []
    block: list[str] | None = None
    for line in text.splitlines():
        if "@REPEAT@" in line:
            block = []
        elif "@END@" in line and block is not None:
            piece = "\n".join(block)
            lines += [piece.replace("@I@", str(number)) for number in range(repeat)]
            block = None
        elif block is not None:
            block.append(line)
        else:
            lines.append(line)
    return PLACE.sub(lambda found: str(values[found[1]]), "\n".join(lines)) + "\n"
