"""The real SAELens loads the exports of all learners; its codes and reconstructions become fixtures.

    pip install sae-lens==6.54.12 torch
    sae_lens_exports.py EXPORTS FIXTURE

EXPORTS holds a folder per learner, as `cargo test --test it writes_exports -- --ignored` writes them:
an exported dictionary and `rows.safetensors`. FIXTURE gets the same folders with what SAELens made of
the rows; the tests of the repository compare atomflow with that.
"""

import shutil
import sys
from pathlib import Path

import torch
from sae_lens import SAE, __version__
from safetensors.torch import load_file, save_file


def main():
    exports, fixture = Path(sys.argv[1]), Path(sys.argv[2])
    shutil.rmtree(fixture, ignore_errors=True)
    folders = sorted(path for path in exports.iterdir() if path.is_dir())
    refused = [folder.name for folder in folders if not checked(folder, fixture / folder.name)]
    if refused or not folders:
        sys.exit(f"FAILED: SAELens refuses {refused} of {len(folders)}")
    print(f"checked: SAELens {__version__} loads {len(folders)} exports; wrote {fixture}")


def checked(folder, fixture):
    """Writes the fixture of one export; False if SAELens refuses it."""
    try:
        outputs = passed(folder)
    except Exception as error:  # whatever it is, the others are to be tried, too
        print(f"{folder.name}: {type(error).__name__}: {error}")
        return False
    fixture.mkdir(parents=True)
    for name in ("cfg.json", "sae_weights.safetensors"):
        shutil.copyfile(folder / name, fixture / name)
    file = fixture / "outputs.safetensors"
    save_file(outputs, file, metadata={"sae_lens_version": __version__})
    file.chmod(0o644)
    return True


def passed(folder):
    """Rows, codes and reconstructions. `forward` adds the skip of a transcoder to what codes decode to."""
    sae = SAE.load_from_disk(folder, device="cpu")
    x = load_file(folder / "rows.safetensors")["x"]
    with torch.no_grad():
        codes, x_hat = sae.encode(x), sae(x)
    l0 = (codes != 0).sum(-1).float().mean()
    print(f"{folder.name}: {type(sae).__name__}, {sae.cfg.d_in} x {sae.cfg.d_sae}, L0 {l0:.1f}")
    return {"x": x, "codes": codes.contiguous(), "x_hat": x_hat.contiguous()}


main()
