"""CLIP features of pictures and prompts, from the pair that lies in the base's ``clip`` folder."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image
from transformers import CLIPImageProcessorPil, CLIPModel


class ImageFeatures:
    """The CLIP image encoder I(x) of the method's memory; features are unit vectors ``(B, projection)``."""

    def __init__(self, folder: Path):
        self.model = CLIPModel.from_pretrained(folder).eval().requires_grad_(False)
        self.processor = CLIPImageProcessorPil.from_pretrained(folder)

    @torch.no_grad()
    def images(self, pictures: list[Image.Image]) -> torch.Tensor:
        pixels = self.processor(images=pictures, return_tensors="pt")["pixel_values"]
        seen = self.model.vision_model(pixel_values=pixels).pooler_output
        return F.normalize(self.model.visual_projection(seen), dim=-1)
