"""What can be typed: the subcommands with their flags and help, one module each. Nothing heavy is imported here."""

from . import bench, choose, export_onnx, pack, prune, push, report, size, sweep, tune, unpack

COMMANDS = (bench, choose, export_onnx, pack, prune, push, report, size, sweep, tune, unpack)
