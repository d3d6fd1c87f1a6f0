"""The evaluation protocol and its report; nothing here imports rewards or critics.

Read `protocol.py` first: prompts, systems, and `run_protocol`. Then `measure.py`, all metrics of one set of pieces, and
`comparisons.py`, what its intervals support. `report_content.py` selects the content that `report.py` renders.
`folders.py` compares two folders of files; `self_check.py` and `corruption_table.py` check the metrics themselves.
"""
