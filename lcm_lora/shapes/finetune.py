"""Put a fine-tune of the shapes world together: the shipped base, with some tensors of its own.

The package ships only what the fine-tune changed. Others read whole folders, so one is made in the
project, of links where links can be. No torch here: the first look comes by.
"""

from __future__ import annotations

import filecmp
import functools
from pathlib import Path

from lcm_lora.errors import UserError, one_of
from lcm_lora.files import link, new_folder, write_bytes
from lcm_lora.shapes import places

_UNET = Path("unet") / "diffusion_pytorch_model.safetensors"


def assembled(name: str, place: Path) -> Path:
    """Return the folder of a fine-tune in the layout of diffusers, after making it if need be.

    Args:
        name: Of the fine-tune, such as `shapes-dusk`.
        place: The folder in which it stands, under its name.

    Raises:
        UserError: There is no such fine-tune, or its tensors are missing.
    """
    tuned = places.FINE_TUNES[one_of(name, places.FINE_TUNES)]
    if not tuned.is_file():
        raise UserError(f"{tuned}: no such file; run `lcm-lora shapes-looks`")
    folder, unet = place / name, _unet(tuned)
    if not _is_whole(folder, unet):
        with new_folder(folder) as made:
            for file in _files():
                (made / file).parent.mkdir(exist_ok=True)
                if file == _UNET:
                    write_bytes(made / file, unet)
                else:
                    link(places.BASE / file, made / file)
    return folder


def _files() -> list[Path]:
    return sorted(p.relative_to(places.BASE) for p in places.BASE.rglob("*") if p.is_file())


@functools.cache
def _unet(tuned: Path) -> bytes:
    """Return the file of the denoiser: the base's tensors, some of them exchanged.

    It is put together once, though a base is looked up many times.
    """
    from safetensors.numpy import load_file, save

    return save({**load_file(places.BASE / _UNET), **load_file(tuned)}, {"format": "pt"})


def _is_whole(folder: Path, unet: bytes) -> bool:
    """Tell whether a folder holds all files with the content that they should have."""
    here = [file for file in _files() if (folder / file).is_file()]
    if here != _files() or (folder / _UNET).read_bytes() != unet:
        return False
    others = [file for file in here if file != _UNET]
    return all(filecmp.cmp(places.BASE / f, folder / f, shallow=False) for f in others)
