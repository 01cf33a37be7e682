"""Opens two workbooks with openpyxl and prints, as JSON, the cells that differ, and what else does."""
import json
import sys

from openpyxl import load_workbook

before, after = (load_workbook(path) for path in sys.argv[1:3])
differing, other = {}, []


def compare(what, was, now):
    if was != now:
        other.append(what)


compare("sheets", before.sheetnames, after.sheetnames)
for table in ("_fonts", "_fills", "_borders", "_alignments", "_protections", "_number_formats"):
    compare(table, repr(getattr(before, table)), repr(getattr(after, table)))
for old, new in zip(before.worksheets, after.worksheets):
    rows, columns = max(old.max_row, new.max_row), max(old.max_column, new.max_column)
    for row in range(1, rows + 1):
        for column in range(1, columns + 1):
            was, now = old.cell(row, column), new.cell(row, column)
            place = f"{old.title}!{now.coordinate}"
            if was.value != now.value:
                differing[place] = now.value
            compare(f"style of {place}", was._style, now._style)
    compare(f"merged cells of {old.title}", sorted(map(str, old.merged_cells.ranges)), sorted(map(str, new.merged_cells.ranges)))
    compare(f"validations of {old.title}", repr(old.data_validations), repr(new.data_validations))
    compare(f"protection of {old.title}", repr(old.protection), repr(new.protection))
print(json.dumps({"differing": differing, "other": other}))
