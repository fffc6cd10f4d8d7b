"""CrAM in a plain PyTorch loop: an image CNN with BatchNorm that is pruned in one shot afterwards.

python examples/plain_loop.py          (needs scikit-learn, for its 1,797 images of handwritten digits)

What a loop of your own needs: choose the weights once (`compressible_weights`), wrap the forward and backward pass in
a closure, and call `cram_step` where `optimizer.step()` was. One compressor is drawn for each update, so that the same
network learns to bear several sparsities.

After pruning, the running statistics of BatchNorm belong to a network that is no longer there. As in the paper, they
are measured anew with some training images: no gradient, no labels, no change of a weight.
"""

import copy

import torch
from sklearn.datasets import load_digits
from torch import nn

from cram_hf import TopK, compressible_weights, cram_step, draw

SEED, EPOCHS, BATCH = 0, 10, 64
COMPRESSORS, SPARSITIES = [TopK(0.7), TopK(0.9), TopK(0.95)], [0.0, 0.7, 0.8, 0.9, 0.95]

digits = load_digits()
images, labels = torch.tensor(digits.images).float().unsqueeze(1) / 16, torch.tensor(digits.target)
order = torch.randperm(len(images), generator=torch.Generator().manual_seed(SEED))
train, test = order[:1297], order[1297:]


def network() -> nn.Module:
    def block(inputs: int, outputs: int) -> list[nn.Module]:
        return [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]

    torch.manual_seed(SEED)
    layers = [*block(1, 16), *block(16, 32), nn.MaxPool2d(2), *block(32, 32), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(32, 10))


def fit(cram: bool) -> nn.Module:
    """Trains the same network from the same start, with CrAM+ or with AdamW alone."""
    model = network()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    weights = compressible_weights(model)
    batches = [b for _ in range(EPOCHS) for b in train[torch.randperm(len(train))].split(BATCH)]
    for update, batch in enumerate(batches):

        def closure(batch: torch.Tensor = batch) -> torch.Tensor:
            loss = nn.functional.cross_entropy(model(images[batch]), labels[batch])
            loss.backward()
            return loss

        if cram:
            cram_step(model, optimizer, closure, weights, draw(COMPRESSORS, SEED, update), rho=0.05)
        else:
            optimizer.zero_grad()
            closure()
            optimizer.step()
    return model


@torch.no_grad()
def accuracy(model: nn.Module, sparsity: float) -> float:
    """Accuracy in percent of a copy of the model: pruned, its BatchNorm statistics measured anew."""
    pruned = copy.deepcopy(model)
    TopK(sparsity).apply_(compressible_weights(pruned))
    for layer in pruned.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.reset_running_stats()
            layer.momentum = None  # the plain average over all batches
    for batch in train.split(BATCH):
        pruned(images[batch])
    return float((pruned.eval()(images[test]).argmax(1) == labels[test]).float().mean()) * 100


if __name__ == "__main__":
    print("accuracy, %  " + "".join(f"{f'{s:.0%} zeros' if s else 'dense':>11}" for s in SPARSITIES))
    for name, cram in (("AdamW", False), ("CrAM+-Multi", True)):
        model = fit(cram)
        print(f"{name:13}" + "".join(f"{accuracy(model, s):11.1f}" for s in SPARSITIES))
