"""Run by the schedule: counts the jobs that are done."""

import os
import pathlib

data = pathlib.Path(os.environ.get("DATA_DIR", "."))
done = data / "done"
count = len(done.read_text().splitlines()) if done.exists() else 0
(data / "report").write_text(f"{count} jobs done\n")
print(f"{count} jobs done")
