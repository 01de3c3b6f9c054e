"""The text beside a file for Lens Studio: what to type into the import dialog, and the same as a script.

The dialog asks for the name, shape, transform, scale and bias of each input and output. A camera texture arrives as red, green,
blue, 0..255; a texture that is written wants 0..255. The file takes and gives exactly that: every scale is 1, every bias 0.
"""

from __future__ import annotations

from maskwright.bundles.bundle import Description
from maskwright.imaging.images import PAD_COLOUR


def text(name: str, description: Description, head: str) -> str:
    """The import recipe of the file `name`. head: what its output holds, see `lens_studio.head_of`."""
    height, width = description.size
    channels = 1 if head == "object" else len(description.classes)
    return TEMPLATE.format(
        name=name,
        width=width,
        height=height,
        channels=channels,
        ones=_triple("1"),
        zeros=_triple("0"),
        meaning=meaning(description, head),
        listing=_listing(description, head),
        fitting=FITTING[description.fit].format(
            aspect=f"{width / height:.4g}", width=width, height=height, colour=", ".join(map(str, PAD_COLOUR))
        ),
        stretch="true" if description.fit == "squash" else "false",
        margins=MARGINS if description.fit == "pad" else "",
        several=SEVERAL if channels > 4 else "",
    )


def meaning(description: Description, head: str) -> str:
    """What the output's numbers are, as a clause."""
    first, *others = description.classes
    if head == "object":
        return f"the probability of `{others[0]}`, 0 to 255, against `{first}`"
    if head == "classes":
        return "the probability of each class, 0 to 255; classes may overlap"
    if head == "softmax":
        return "the probability of each class, 0 to 255, together 255"
    return (
        "the margin of each class over the strongest other, 0 to 255: above 127.5 where the pixel is of the class alone"
    )


def _listing(description: Description, head: str) -> str:
    names = description.classes[1:] if head == "object" else description.classes
    return "\n".join(f"             channel {index}: {name}" for index, name in enumerate(names))


def _triple(value: str) -> str:
    return " ".join([value] * 3)


FITTING = {
    "squash": (
        "Stretch on: the network was trained on whole photos, stretched to its input.\n"
        "             Least distortion comes from a camera crop of about {aspect} : 1 (width : height)."
    ),
    "pad": (
        "Stretch off, both alignments Center, fill colour {colour} (of 255): the network was trained on photos\n"
        "             that keep their proportions, in the middle of that colour."
    ),
    "crop": (
        "Stretch off: the network was trained on windows of {width} x {height} pixels that keep the photo's\n"
        "             proportions. Crop the camera texture to about {aspect} : 1 (width : height) to fill them."
    ),
}
MARGINS = "\n    .setHorizontalAlignment(HorizontalAlignment.Center).setVerticalAlignment(VerticalAlignment.Center)" + (
    "\n    .setFillColor(new vec4({}, {}, {}, 1))".format(*(f"{level / 255:.3f}" for level in PAD_COLOUR))
)  # as `images.plan` lays a photo into the input
SEVERAL = "             More than 4 channels are no texture: read them as data, or ask for fewer classes.\n"
TEMPLATE = """How to import {name} into Lens Studio

Drag {name} into the Asset Browser (Resources), add an ML Component and choose it as the model.

INPUT
  name       data
  shape      {width} x {height} x 3 (width x height x channels; the file itself says 1 x 3 x {height} x {width})
  texture    Device Camera Texture: red, green, blue, 0 to 255
  scale      {ones} (per channel: red green blue)
  bias       {zeros}
             Nothing is normalised outside: the file takes the camera's values as they are. Numbers such as
             0.0171247 in other templates belong to other models.
  rotation   none: the picture as it is held, portrait
  transform  {fitting}

OUTPUT
  name       prob
  shape      {width} x {height} x {channels}
  type       texture
  scale      1
  bias       0
             The values are 0 to 255 already; do not multiply by 255 again.
  transform  the inverse of the input's, so that the mask lies on the camera picture again
  holds      {meaning}
{listing}
{several}             A mask's edge lies at 127.5, in a shader that reads 0 to 1 at 0.5.

The same as a script:

  //@input Asset.MLAsset model
  //@input Asset.Texture camera
  var transformer = MachineLearning.createTransformerBuilder().setStretch({stretch}){margins}.build();
  var input = MachineLearning.createInputBuilder();
  input.setName("data");
  input.setShape(new vec3({width}, {height}, 3));
  input.setInputTexture(script.camera);
  input.setTransformer(transformer);
  var output = MachineLearning.createOutputBuilder();
  output.setName("prob");
  output.setShape(new vec3({width}, {height}, {channels}));
  output.setOutputMode(MachineLearning.OutputMode.Texture);
  var component = script.sceneObject.createComponent("MLComponent");
  component.model = script.model;
  // the inverse transform: component.getInput("data").transformer.inverseMatrix, once it is loaded
  component.onLoadingFinished = function () {{ component.runScheduled(true, MachineLearning.FrameTiming.Update,
    MachineLearning.FrameTiming.OnRender); }};
  component.build([input.build(), output.build()]);
"""
