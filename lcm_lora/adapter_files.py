"""What the files of an adapter's folder are called."""

RECIPE = "recipe.json"
WEIGHTS = "pytorch_lora_weights.safetensors"
KOHYA = "adapter_kohya.safetensors"
