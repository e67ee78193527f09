"""What the pages and the jobs of exchange both name."""

#: What was exported, as one file; what was given to be imported, before its own ending.
OUT, IN = "export.zip", "import"
#: What a world is exported as -> for whom.
FORMATS = {
    "lora": "LoRA for ComfyUI, A1111, diffusers",
    "diffusers": "LoRA with peft's names",
    "kohya": "LoRA as kohya's sd-scripts write it",
    "embedding": "textual inversion embedding",
    "custom-diffusion": "Custom Diffusion's weights",
    "pipeline": "a whole diffusers pipeline, with them merged in",
    "world": "this world whole, for another studio",
}
