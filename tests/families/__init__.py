"""What is held of every family of models, each by one tiny folder: its row."""

ROWS = ("sd", "sdxl", "pixart", "sd3", "flux", "flux2", "z_image", "deepfloyd_if", "sana")
