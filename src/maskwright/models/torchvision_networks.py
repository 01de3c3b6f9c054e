"""The networks of torchvision's segmentation reference, as torchvision builds them: `encoder` is what it calls backbone.

Their encoders start from torchvision's own ImageNet files (resnet50-....pth, mobilenet_v3_large-....pth).
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import interpolate
from torchvision.models import segmentation

from maskwright.models.encoded import AUXILIARY_ROWS, Output, checked_weight, with_auxiliary


def fcn_resnet50(num_classes: int, *, aux: float = 0.0) -> nn.Module:
    """FCN on a ResNet-50 of stride 8 (torchvision; Long et al. 2015 with the dilation of Yu et al. 2017).

    aux: weight of an auxiliary loss on the features before the deepest ones, 0.5 in torchvision's reference; 0: none.
    """
    return _resnet("fcn", "resnet50", num_classes, aux)


def fcn_resnet101(num_classes: int, *, aux: float = 0.0) -> nn.Module:
    """FCN on a ResNet-101 of stride 8 (torchvision; Long et al. 2015 with the dilation of Yu et al. 2017).

    aux: weight of an auxiliary loss on the features before the deepest ones, 0.5 in torchvision's reference; 0: none.
    """
    return _resnet("fcn", "resnet101", num_classes, aux)


def deeplabv3_resnet50(num_classes: int, *, aux: float = 0.0) -> nn.Module:
    """DeepLabV3 on a ResNet-50 of stride 8 (torchvision; Chen et al. 2017).

    aux: weight of an auxiliary loss on the features before the deepest ones, 0.5 in torchvision's reference; 0: none.
    """
    return _resnet("deeplabv3", "resnet50", num_classes, aux)


def deeplabv3_resnet101(num_classes: int, *, aux: float = 0.0) -> nn.Module:
    """DeepLabV3 on a ResNet-101 of stride 8 (torchvision; Chen et al. 2017).

    aux: weight of an auxiliary loss on the features before the deepest ones, 0.5 in torchvision's reference; 0: none.
    """
    return _resnet("deeplabv3", "resnet101", num_classes, aux)


def lraspp_mobilenet_v3_large(num_classes: int) -> nn.Module:
    """Lite R-ASPP on a MobileNetV3 of stride 16 (torchvision; Howard et al. 2019); `lraspp` takes other encoders."""
    built = segmentation.lraspp_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=num_classes)
    rows = ("classifier.low_classifier.", "classifier.high_classifier.")
    return TorchvisionNetwork(built.backbone, built.classifier, None, "mobilenet_v3_large", 16, rows)


def _resnet(head: str, encoder: str, num_classes: int, aux: float) -> nn.Module:
    checked_weight(aux)
    make = getattr(segmentation, f"{head}_{encoder}")
    built = make(weights=None, weights_backbone=None, num_classes=num_classes, aux_loss=aux > 0)
    rows = ("classifier.4.", AUXILIARY_ROWS)
    return TorchvisionNetwork(built.backbone, built.classifier, built.aux_classifier, encoder, 8, rows, aux)


class TorchvisionNetwork(nn.Module):
    """forward: normalised images float (B, 3, H, W) -> logits (B, C, H, W), upsampled bilinearly; in train mode with an
    auxiliary head a tuple of them and its logits (B, C, H/8, W/8)."""

    def __init__(
        self,
        backbone: nn.Module,
        classifier: nn.Module,
        auxiliary: nn.Module | None,
        encoder_name: str,
        stride: int,
        head_names: tuple[str, ...],
        aux: float = 0.0,
    ):
        super().__init__()
        self.encoder = backbone
        self.classifier = classifier
        self.auxiliary = auxiliary
        self.encoder_name, self.stride, self.head_names, self.aux_weight = encoder_name, stride, head_names, aux

    def forward(self, images: Tensor) -> Output:
        features = self.encoder(images)
        scores = self.classifier(features.get("out", features))  # that of LR-ASPP takes two levels
        logits = interpolate(scores, size=images.shape[-2:], mode="bilinear", align_corners=False)
        return with_auxiliary(self, logits, features.get("aux"))
