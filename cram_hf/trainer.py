"""`CrAMTrainer`: the Hugging Face `Trainer` whose every optimizer update is a CrAM update."""

from __future__ import annotations

import logging
import math
from contextlib import nullcontext
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, SequentialSampler
from transformers import PreTrainedModel, Trainer
from transformers.trainer_utils import EvalLoopOutput, TrainOutput, has_length

from .arguments import CrAMArguments
from .compressors import Compressor, parse_compressor
from .core import Perturb, ascending, compressed_pass, cram_point
from .keep import KeepZeros
from .monitor import Monitor
from .rng import draw, replayed, rng_state
from .support import refuse_unsupported
from .swap import compressed
from .trainer_hub import make_trainers_repo, push_trainer, write_card
from .weights import compressible_weights

logger = logging.getLogger(__name__)


class CrAMTrainer(Trainer):
    """Takes the place of `Trainer` in a script; `CrAMArguments` takes the place of `TrainingArguments`.

    Trainer runs the dense pass over the accumulation window as always. After its last micro-batch, when `.grad` holds
    the gradient g of the whole window and of all ranks, the weights go to the compressed point, the window runs a
    second time and adds its gradient, and the weights come back bit for bit. So the right gradient sits in `.grad`
    when Trainer goes on to clip and step, and everything else is Trainer's own: any optimizer, clipping, schedules,
    mixed precision, checkpoints and resume. The returned and logged `loss` is the dense one. Without `compressors`
    its updates are Trainer's, bit for bit, unless `exact_loss` is set to True as in our scripts (see `compute_loss`).
    Evaluation keeps the order of the set, which Trainer shuffles when training is grouped by length.

    Raises:
        TypeError: `args` are no `CrAMArguments`.
        ValueError: a pattern of `compress_include` or `compress_exclude` matches nothing, or there are no zeros for
            `keep_sparsity`.
        NotImplementedError: the set-up cannot make a CrAM update; the message says why and what works.
    """

    args: CrAMArguments
    model: PreTrainedModel
    exact_loss = False
    _kept: KeepZeros | None = None  # on the class: Trainer's own __init__ may call call_model_init

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not isinstance(self.args, CrAMArguments):
            raise TypeError(
                f"CrAMTrainer got {type(self.args).__name__}; it takes CrAMArguments, which has all "
                "fields of TrainingArguments. Type: from cram_hf import CrAMArguments."
            )
        self._weights: dict[str, nn.Parameter] = {}
        self._weights_of: nn.Module | None = None
        self._ignores_item_count: bool | None = None
        self._window: list[dict[str, Any]] = []
        self._random_states: list[list[Tensor]] = []
        self._monitor = Monitor()
        if self.args.compressors or self.args.eval_compressors or self.args.keep_sparsity:
            refuse_unsupported(self, self.compressible, training=bool(self.args.compressors))
            for spec in [*self.args.compressors, *self.args.eval_compressors]:
                parse_compressor(spec).check(self.compressible)
        else:
            logger.info("No compressors: this is the plain Trainer. Type e.g. compressors=['topk:0.5', 'topk:0.7'].")
        if self.args.keep_sparsity:
            self._kept = KeepZeros(self.compressible)
            self.add_callback(self._kept)

    @property
    def compressors(self) -> list[Compressor]:
        """The compressors trained for, from `args.compressors` (which a hyperparameter search may change)."""
        return [parse_compressor(spec) for spec in self.args.compressors]

    @property
    def compressible(self) -> dict[str, nn.Parameter]:
        """The weights that are compressed, chosen anew when a trial of a hyperparameter search brings a new model."""
        if self._weights_of is not self.model:
            self._weights = compressible_weights(self.model, self.args.compress_include, self.args.compress_exclude)
            self._weights_of, self._ignores_item_count = self.model, None
        return self._weights

    def call_model_init(self, trial: Any = None) -> nn.Module:
        """Makes the model of a trial; the zeros to keep are its own, taken before a checkpoint is loaded into it."""
        model = super().call_model_init(trial)
        if self._kept:
            self._kept.take(compressible_weights(model, self.args.compress_include, self.args.compress_exclude))
        return model

    def train(self, *args: Any, **kwargs: Any) -> TrainOutput:
        """Trains; with `keep_sparsity` every zero of the start is one at the end, else it raises `RuntimeError`."""
        with self._kept.holding() if self._kept else nullcontext():
            return super().train(*args, **kwargs)

    # ---- one update ----

    def get_batch_samples(self, *args: Any, **kwargs: Any) -> tuple[list[Any], Tensor | int | None]:
        """Keeps the window of micro-batches of the coming update for its second pass.

        Resumed from a checkpoint of its last update, in the middle of an epoch, training is over; Trainer would make
        one update more.
        """
        if 0 < self.state.max_steps <= self.state.global_step:
            self.control.should_training_stop = True
            return [], None
        self._window, items = super().get_batch_samples(*args, **kwargs)
        self._random_states = []
        return self._window, items

    def training_step(self, model: nn.Module, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Tensor:
        """Runs the dense pass of a micro-batch and, after the last of an update, the compressed pass of them all."""
        if not self.args.compressors:
            return super().training_step(model, inputs, *args, **kwargs)
        if not self._window:  # called on its own, outside of train()
            self._window = [inputs]
        self._random_states.append(rng_state(self.args.device))
        loss = super().training_step(model, inputs, *args, **kwargs)
        if self.accelerator.sync_gradients:
            self._compressed_window(model, *args, **kwargs)
            self._window, self._random_states = [], []
        return loss

    def _compressed_window(self, model: nn.Module, *args: Any, **kwargs: Any) -> None:
        """Adds the gradient of the compressed pass over the whole window to the dense one (or replaces it)."""
        compressor = draw(self.compressors, self.args.seed, self.state.global_step, self.args.compressor_weights)
        weights = self.compressible
        parameters = ascending(self.model, weights, cast(Perturb, self.args.perturb))
        scaler = self.accelerator.scaler
        point = cram_point(
            parameters,
            weights,
            compressor,
            self.args.rho,
            grad_scale=scaler.get_scale() if scaler is not None else 1.0,
            normalize_grad=self.args.normalize_grad,
        )
        overflow = scaler is not None and not math.isfinite(point.step)  # left for the scaler, which skips the update
        if not self.args.plus and not overflow:
            model.zero_grad()
        losses = []
        with compressed_pass(self.model, parameters, weights, point, masked=self.args.masked):
            *head, last = zip(self._window, self._random_states, strict=True)
            for inputs, state in head:
                with self.accelerator.no_sync(model=model):
                    losses.append(self._compressed_step(model, inputs, state, *args, **kwargs))
            losses.append(self._compressed_step(model, *last, *args, **kwargs))
        self._monitor.update(compressor, point, torch.stack(losses).sum())

    def _compressed_step(
        self, model: nn.Module, inputs: dict[str, Any], state: list[Tensor], *args: Any, **kwargs: Any
    ) -> Tensor:
        with replayed(state, self.args.device, self.args.same_dropout):
            return super().training_step(model, inputs, *args, **kwargs)

    def compute_loss(self, model: nn.Module, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Weights a micro-batch by its share of the window's labels where the head takes a plain mean.

        Some heads (BERT's for sequence classification and masked LM) accept the window's label count but ignore it,
        and Trainer then leaves out the division (huggingface/transformers#47688): the gradient is too large by
        accumulation steps times ranks. The loss of such a head, a mean over its n labels, becomes its exact share
        n / N of the window's mean. Without `compressors` only if `exact_loss` is set.
        """
        items, labels = kwargs.get("num_items_in_batch"), inputs.get("labels")
        exact = (self.args.compressors or self.exact_loss) and self.model.training
        if not exact or items is None or labels is None:
            return super().compute_loss(model, inputs, *args, **kwargs)
        if self._ignores_item_count is None:
            self._ignores_item_count = self._loss_ignores(items, inputs)
        result = super().compute_loss(model, inputs, *args, **kwargs)
        if not self._ignores_item_count:
            return result
        share = labels.ne(-100).sum() / items
        return (result[0] * share, *result[1:]) if isinstance(result, tuple) else result * share

    def _loss_ignores(self, items: Tensor | int, inputs: dict[str, Any]) -> bool | None:
        """Whether the loss stays the same when the label count doubles; tried without dropout and gradients.

        `None` if this batch cannot tell, because its loss is zero or not finite; then the next one is tried.
        """
        self.model.eval()
        try:
            with torch.no_grad():
                once = cast(Tensor, super().compute_loss(self.model, dict(inputs), num_items_in_batch=items))
                twice = super().compute_loss(self.model, dict(inputs), num_items_in_batch=items * 2)
        finally:
            self.model.train()
        return bool(once == twice) if once.isfinite() and once != 0 else None

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """Returns the operations of both passes."""
        return super().floating_point_ops(inputs) * (2 if self.args.compressors else 1)

    # ---- evaluation and logs ----

    def evaluation_loop(
        self,
        dataloader: DataLoader[Any],
        description: str,
        prediction_loss_only: bool | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> EvalLoopOutput:
        """Evaluates the dense model and then each of `eval_compressors`; `predict` stays dense.

        Metrics of a compression carry its key, `eval_topk_0.8_f1`, and the count of samples covers all the loops.
        """

        def loop(name: str, prefix: str) -> EvalLoopOutput:
            return super(CrAMTrainer, self).evaluation_loop(
                dataloader, name, prediction_loss_only, ignore_keys, prefix
            )

        output = loop(description, metric_key_prefix)
        if not metric_key_prefix.startswith("eval"):
            return output
        metrics, samples = dict(output.metrics or {}), output.num_samples or 0
        for compressor in map(parse_compressor, self.args.eval_compressors):
            with compressed(self.compressible, compressor):
                extra = loop(f"{description} {compressor.spec}", f"{metric_key_prefix}_{compressor.key}")
            metrics |= extra.metrics or {}
            samples += extra.num_samples or 0
        return output._replace(metrics=metrics, num_samples=samples)

    def _get_eval_sampler(self, eval_dataset: Any) -> Any:
        """Keeps the order of the evaluation set; Trainer would shuffle it too when *training* is grouped by length."""
        if not has_length(eval_dataset) or self.args.world_size > 1:
            return None  # the loader then goes through the set in order
        return SequentialSampler(eval_dataset)

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Adds the method's own figures to the training logs."""
        if "loss" in logs and self.args.compressors:
            logs |= self._monitor.flush(unwrapped(self.model), self.accelerator)
        super().log(logs, *args, **kwargs)

    def init_hf_repo(self, token: str | None = None, private: bool | None = None) -> None:
        """Makes the repository, private unless `private` or `hub_private_repo` is `False`."""
        make_trainers_repo(self, token, private)

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """Writes our card, see `trainer_hub.write_card`."""
        write_card(self, *args, **kwargs)

    def push_to_hub(self, *args: Any, **kwargs: Any) -> Any:
        """Saves the model first and then uploads what belongs on the Hub, see `trainer_hub.push_trainer`."""
        self.callback_handler.on_push_begin(self.args, self.state, self.control)
        self.save_model(_internal_call=True)
        return push_trainer(self, *args, **kwargs)


def unwrapped(model: nn.Module) -> nn.Module:
    """The module that `torch.compile` wrapped, whose parameter names carry no prefix; else the model itself."""
    return getattr(model, "_orig_mod", model)
