"""Official StyleGAN2 files (`.pkl`) for tests, with a stand-in for what writes them."""

import pickle
import re
import sys
import types
import warnings

import numpy as np
import torch

from ohlora_lib.nets.stylegan2 import Discriminator, Generator
from ohlora_lib.nets.stylegan2.layers import fixed_filter

SIZES = {"image_px": 16, "c_dim": 0, "z_dim": 10, "w_dim": 12, "mapping_layers": 2}
SIZES |= {"channel_base": 128, "channel_max": 16, "conv_clamp": 256}
JUDGE = {name: value for name, value in SIZES.items() if name.startswith(("i", "c"))}
JUDGE |= {"mbstd_group_size": 4}


def network(kind, seed=0, **own):
    """Random tensors of a small network under official names."""
    draw = torch.Generator().manual_seed(seed)
    make, sizes = (Generator, SIZES) if kind == "generator" else (Discriminator, JUDGE)
    blank = make(**{**sizes, **own}).state_dict()
    tensors = {name: torch.randn(old.shape, generator=draw) for name, old in blank.items()}
    return {n: fixed_filter() if n.endswith("filter") else t for n, t in tensors.items()}


def global_of(monkeypatch, place, value):
    """Makes pickle store `value` as the global `place`, a dotted name."""
    module, _, name = place.rpartition(".")
    for end in (*re.finditer(r"\.", module), None):  # its packages, too
        package = module[: end and end.start()]
        stand_in = sys.modules.get(package) or types.ModuleType(package)
        monkeypatch.setitem(sys.modules, package, stand_in)
    monkeypatch.setattr(sys.modules[module], name, value, raising=False)
    value.__module__, value.__qualname__ = module, name
    return value


class Persistent:
    """A network as an official file stores it: source text that a reader would run, and state."""

    source, call = "", None

    def __init__(self, name, **state):
        self.name, self.state = name, state

    def __reduce__(self):
        meta = {"type": "class", "version": 6, "module_src": self.source}
        return Persistent.call, ({**meta, "class_name": self.name, "state": self.state},)


def run_source(meta):
    exec(meta["module_src"])  # noqa: S102


def trapped(monkeypatch, path):
    """Makes official files store source text that creates a file at `path` if it is ever run."""
    place = "torch_utils.persistence._reconstruct_persistent_obj"
    call = types.FunctionType(run_source.__code__, globals())
    monkeypatch.setattr(Persistent, "call", staticmethod(global_of(monkeypatch, place, call)))
    monkeypatch.setattr(Persistent, "source", f"open({str(path)!r}, 'w').close()")


def saved(name, tensors, **state):
    """Nests tensors as an official file does."""
    state = {"_parameters": {}, "_buffers": {}, "_modules": {}, "training": False, **state}
    state["_non_persistent_buffers_set"] = set()
    inner = {}
    for key, tensor in tensors.items():
        head, _, rest = key.partition(".")
        if rest:
            inner.setdefault(head, {})[rest] = tensor
        elif key in ("resample_filter", "noise_const", "w_avg"):
            state["_buffers"][key] = tensor
        else:
            state["_parameters"][key] = torch.nn.Parameter(tensor)
    state["_parameters"]["absent"] = None
    for key, part in inner.items():
        own = {"conv_clamp": None if key == "skip" else 256} if "weight" in part else {}
        own |= {"weight_gain": np.float64(0.5), "activation": "lrelu"}
        state["_modules"][key] = saved("Layer", part, **own)
    return Persistent(name, **state)


def official_file(path, protocol=4, discriminator=True, **extra):
    """Writes an official file; `extra` is among its generator's state. Returns its networks."""
    tensors = {"G": network("generator", 1), "D": network("discriminator", 2)}
    tensors["G_ema"] = network("generator", 3)
    options = {"z_dim": 10, "c_dim": 0, "w_dim": 12, "img_resolution": 16, "img_channels": 3}
    generators = {
        name: saved("Generator", tensors[name], _init_kwargs={**options, **extra}, _init_args=())
        for name in ("G", "G_ema")
    }
    judge = saved("Discriminator", tensors["D"]) if discriminator else None
    content = {"training_set_kwargs": None, "G": generators["G"], "D": judge}
    content |= {"G_ema": generators["G_ema"], "device": torch.device("cuda", 0)}
    with warnings.catch_warnings(action="ignore"):  # about TypedStorage
        path.write_bytes(pickle.dumps(content, protocol))
    return tensors
