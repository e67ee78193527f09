"""CLIP features of pictures and prompts, from the pair that lies in the base's ``clip`` folder."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image
from transformers import CLIPImageProcessorPil, CLIPModel, CLIPTokenizer


class ImageFeatures:
    """The CLIP pair: the image encoder I(x) of the method's memory, and its text encoder; features are unit vectors ``(B, projection)``."""

    def __init__(self, folder: str | Path):
        self.model = CLIPModel.from_pretrained(folder, dtype=torch.float32).eval().requires_grad_(False)
        self.processor = CLIPImageProcessorPil.from_pretrained(folder)

    @torch.no_grad()
    def images(self, pictures: list[Image.Image]) -> torch.Tensor:
        pixels = self.processor(images=pictures, return_tensors="pt")["pixel_values"].to(self.model.device)
        seen = self.model.vision_model(pixel_values=pixels).pooler_output
        return F.normalize(self.model.visual_projection(seen), dim=-1).cpu()

    @torch.no_grad()
    def texts(self, tokenizer: CLIPTokenizer, prompts: list[str]) -> torch.Tensor:
        """Of prompts of plain words; the text encoder is the pair's own, so personal tokens mean nothing to it."""
        length = self.model.config.text_config.max_position_embeddings
        ids = tokenizer(
            prompts, padding="max_length", max_length=length, truncation=True, return_tensors="pt"
        ).input_ids
        return F.normalize(
            self.model.text_projection(
                self.model.text_model(input_ids=ids.to(self.model.device)).pooler_output
            ),
            dim=-1,
        ).cpu()
