"""Replayed updates: each batch goes in, each result comes out, every batch size by itself.

Without a GPU a stand-in records: it does the work at every replay, on the recorded memory, and
puts the results where a graph would put them.
"""

import pytest
import torch

from benchmarks.cases import QUICK, new_tuner
from ohlora_lib.finetune import loop
from ohlora_lib.finetune.graphs import Recording, ReplayedUpdate
from ohlora_lib.nets.samples import to_signed


class StandIn:
    """Behaves like a CUDA graph, memory included."""

    def __init__(self):
        self.recorded = 0

    def run(self, work):
        return work()

    def record(self, work):
        self.recorded += 1
        results = []  # of the recording, filled by the first replay

        def replay():
            made = work()
            results.extend(torch.empty_like(result) for result in made[len(results) :])
            for place, result in zip(results, made, strict=True):
                place.copy_(result)

        return Recording(replay, results)


def training(recorder=None, eager_first=2):
    """A tiny training; gives its update and its weights."""
    torch.manual_seed(0)
    net = torch.nn.Linear(3, 1)
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.1)

    def update(batch):
        noise = torch.randn(len(batch), 3)
        scores = net(batch + noise)
        loss = scores.square().mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        return loss.detach(), scores.detach()

    return (ReplayedUpdate(update, recorder, eager_first) if recorder else update), net


def batches():
    random = torch.Generator().manual_seed(1)
    return [torch.randn(size, 3, generator=random) for size in (8, 8, 2, 8, 8, 2, 2, 8, 2, 8)]


def test_replayed_updates_give_the_same_numbers():
    recorder = StandIn()
    (eager, eager_net), (replayed, net) = training(), training(recorder)
    results = []
    for update in (eager, replayed):
        torch.manual_seed(2)
        results.append([update(batch) for batch in batches()])
    assert recorder.recorded == 2  # one for each batch size, once
    for one, other in zip(*results, strict=True):
        assert torch.equal(one[0], other[0])
        assert torch.equal(one[1], other[1])  # an earlier result that is still held is not changed
    assert torch.equal(net.weight, eager_net.weight)


def test_a_batch_is_copied_in():
    """A recording that held on to the first batch would see the same one for ever."""
    seen = []
    update = ReplayedUpdate(lambda batch: (seen.append(batch.sum().item()), batch.clone())[1:],
                            StandIn(), 1)  # fmt: skip
    for value in (1.0, 2.0, 3.0):
        (result,) = update(torch.full((4, 1), value))
        assert result[0, 0] == value
    assert seen == [4.0, 8.0, 12.0]


def test_a_fine_tuning_by_recordings_is_the_same_bit_for_bit(monkeypatch):
    """R1, random noise, the optimizers' state, a short last batch: all of it goes through."""
    monkeypatch.setattr(loop, "CudaRecorder", lambda *_: StandIn())
    rows, states = [], []
    for graphs in (False, True):
        tuner = new_tuner(QUICK, torch.device("cpu"), "float32", graphs=graphs)
        torch.manual_seed(1)
        real = to_signed(tuner.images)
        parts = [real, real, real, real, real[:2], real, real[:2], real[:2], real[:2], real]
        done = [tuner.train_batch(part) for part in parts]
        rows.append([(batch.d_loss, batch.g_loss) for batch in done])
        pool = [torch.cat(pair) for pair in tuner.pool]
        states.append([*pool, *tuner.generator.state_dict().values()])
    assert rows[0] == rows[1]
    assert all(torch.equal(a, b) for a, b in zip(*states, strict=True))
    assert isinstance(tuner.update_generator, ReplayedUpdate)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_fine_tuning_on_a_gpu_is_the_same_with_and_without_graphs():
    rows = []
    for graphs in (False, True):
        tuner = new_tuner(QUICK, torch.device("cuda"), "float32", graphs=graphs)
        torch.manual_seed(1)
        done = [tuner.train_batch(to_signed(tuner.images)) for _ in range(8)]
        rows.append([(batch.d_loss, batch.g_loss) for batch in done])
    assert rows[0] == pytest.approx(rows[1], rel=1e-4)
