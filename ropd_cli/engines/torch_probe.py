"""``python -m ropd_cli.engines.torch_probe``: what torch sees, as one line of JSON. A process of its own, for torch
takes seconds to import and may crash on a broken driver."""

from __future__ import annotations

import json


def main() -> None:
    """Prints {version, cuda, devices: [{name, total_bytes}]}; ``cuda`` is the version torch was built for, or null."""
    import torch

    devices = []
    if torch.cuda.is_available():
        for number in range(torch.cuda.device_count()):
            about = torch.cuda.get_device_properties(number)
            devices.append({"name": about.name, "total_bytes": about.total_memory})
    print(json.dumps({"version": torch.__version__, "cuda": torch.version.cuda, "devices": devices}))


if __name__ == "__main__":
    main()
