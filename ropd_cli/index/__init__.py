"""The teacher index: the teacher's answers by prompt, in one SQLite file that never changes while it is read.

An answer belongs to the pair (uid, hash of the prompt). A lookup takes the pair, else the hash alone, so
that files with other uids for the same prompts still find them; it never takes the uid alone, which would
hand out answers to another question.

``layout`` is the file: tables, checksums, and how it is opened. ``reader`` looks up, ``writer`` builds a copy and
puts it in the place of the old one, ``rows`` are whole prompts with all that is known of their answers, ``selection``
draws which m of more answers are used, ``contents`` counts, ``integrity`` looks for damage, ``exchange`` reads and
writes the JSONL of the method's reference implementation.
"""

from ropd_cli.index.reader import Coverage, TeacherIndex
from ropd_cli.index.rows import Row, Source, Stored
from ropd_cli.index.writer import Added, IndexWriter

__all__ = ["Added", "Coverage", "IndexWriter", "Row", "Source", "Stored", "TeacherIndex"]
