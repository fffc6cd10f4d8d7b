"""Which flags of `cram-hf prune` go together: all that do not are told at once."""

from __future__ import annotations

import argparse

from ..compressors import NM, Chain, Compressor, TopK, parse_compressor


def checked(args: argparse.Namespace) -> Compressor:
    """Returns the compressor of `--to`; with `--mask_from` the one that prunes nothing, as the mask is given.

    Raises:
        ValueError: the flags contradict each other, or lack something; all problems in one message.
    """
    problems = [*_what_goes(args), *_data(args)]
    compressor: Compressor = TopK(0)
    if args.to:
        try:
            compressor = parse_compressor(args.to)
            if args.permute:
                pattern_of(compressor)
        except ValueError as error:
            problems.append(str(error))
    if problems:
        raise ValueError("\n".join(problems))
    return compressor


def pattern_of(compressor: Compressor) -> NM:
    """Returns the N:M pattern that a spec starts with, for `--permute`. Raises `ValueError` if it starts otherwise."""
    first = compressor.members[0] if isinstance(compressor, Chain) else compressor
    if not isinstance(first, NM):
        raise ValueError(f"--permute serves N:M patterns; --to {compressor.spec} has none. Type e.g. --to nm:2:4.")
    return first


def _what_goes(args: argparse.Namespace) -> list[str]:
    """The problems of `--to` and `--mask_from`, of which one says which weights go."""
    if not args.mask_from:
        one = "what is to go is not given: type --to SPEC, e.g. --to topk:0.8, or --mask_from PRUNED_MODEL."
        return [] if args.to else [one]
    problems = []
    if args.to:
        problems.append(f"--to {args.to} and --mask_from {args.mask_from}: one of them says what goes. Leave one out.")
    if args.method == "wanda":
        problems.append(
            "--method wanda only chooses weights, and --mask_from has chosen. Type --method sparsegpt or --refit."
        )
    if args.permute:
        problems.append("--permute moves channels away from their places in --mask_from. Leave one of them out.")
    return problems


def _data(args: argparse.Namespace) -> list[str]:
    problems = []
    wanting = [f"--method {args.method}"] if args.method != "magnitude" else []
    wanting += [f"--{name}" for name in ("refit", "repair") if getattr(args, name)]
    if wanting and not args.data:
        problems.append(f"{', '.join(wanting)}: needs texts, without labels. Add --data FILE, e.g. the training file.")
    if args.data and not wanting:
        problems.append("--data: nothing here uses it. Add --repair, --refit or --method sparsegpt, or leave it out.")
    if len(args.text_columns) > 2:
        problems.append(f"--text_columns: {len(args.text_columns)} were given; a text has one column or two.")
    problems += [
        f"--{name} {getattr(args, name)}: a whole number from 1 on."
        for name in ("samples", "max_length")
        if getattr(args, name) < 1
    ]
    return problems
