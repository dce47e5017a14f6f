"""Fine-tune the last convolutions of a recipe's network on boxes, and write them to a file; train with it afterwards.

python tools/tune_network.py CONFIG --from LAYER (--voc ROOT --split train | --coco JSON) --cache DIR --output LAYERS
python tools/train_svm.py CONFIG --tuned LAYERS ...
"""

from __future__ import annotations

from detector.cli.console import Parser, progress
from detector.cli.options import add_data_options, add_network_options, add_recipe, load_data, precomputed_boxes
from detector.cli.outputs import cache_folder, output_model
from detector.config.detector import load_config
from detector.runtime.files import write_arrays

LAYERS = "spp-layers 1"
"""What files of layers are marked with."""


def parser() -> Parser:
    parser = Parser(description="Fine-tune the last convolutions of a recipe's network through the pyramid pooling.")
    add_recipe(parser, "fine_tuned")
    add_data_options(parser)
    add_network_options(parser, tuned=False)
    parser.add_argument(
        "--from",
        dest="first",
        required=True,
        metavar="LAYER",
        help="the first layer that learns, such as features.10 of alexnet",
    )
    parser.add_argument("--cache", type=cache_folder, required=True, metavar="DIR", help="folder of the cached files")
    parser.add_argument("--output", type=output_model, required=True, metavar="LAYERS", help="the file to write")
    return parser


def main() -> int:
    options = parser().parse_args()
    config = load_config(options.config, options.weights, runtime=options.runtime)
    dataset = load_data(options)
    from detector.training.end_to_end.network_tuning import tune_network

    precomputed = precomputed_boxes(options.proposals)
    layers = tune_network(
        config, dataset, len(dataset.class_names), options.first, options.cache, options.device, progress, precomputed
    )
    write_arrays(options.output, {name: tensor.numpy() for name, tensor in layers.items()}, {"format": LAYERS})
    print(f"{options.output}: {config.features.backbone}, from {options.first} on, {len(layers)} tensors")
    return 0
