"""The parts of the embedded pipeline, untrained: stock diffusers and transformers classes in small sizes."""

import torch
from diffusers import AutoencoderKLWan, FlowMatchEulerDiscreteScheduler, WanTransformer3DModel
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast, UMT5Config, UMT5EncoderModel

from tadp.demo.scenes import sample_scene

LATENT_CHANNELS = 8
TEXT_DIM = 128
VOCABULARY = 512
FLOW_SHIFT = 3.0


def make_tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer: one token for each word of the captions, and still no unknown character anywhere."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<pad>", "</s>"]
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator((sample_scene(seed).caption for seed in range(4000)), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", tokenizer.token_to_id("</s>"))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<pad>", model_max_length=512
    )


def make_text_encoder() -> UMT5EncoderModel:
    """A UMT5 encoder of two layers, about 0.4 M parameters."""
    config = UMT5Config(
        vocab_size=VOCABULARY,
        d_model=TEXT_DIM,
        d_kv=32,
        d_ff=256,
        num_layers=2,
        num_heads=4,
        dropout_rate=0.0,
        pad_token_id=0,
        eos_token_id=1,
    )
    return UMT5EncoderModel(config)


def make_autoencoder() -> AutoencoderKLWan:
    """A video autoencoder that halves time and space twice: 17 frames of 64x64 become 5x16x16 latents of 8 channels."""
    autoencoder = AutoencoderKLWan(
        base_dim=16,
        z_dim=LATENT_CHANNELS,
        dim_mult=[1, 2, 4],
        num_res_blocks=1,
        temperal_downsample=[True, True],
        latents_mean=[0.0] * LATENT_CHANNELS,
        latents_std=[1.0] * LATENT_CHANNELS,
        scale_factor_temporal=4,
        scale_factor_spatial=4,
    )
    _delta_orthogonal_(autoencoder)
    # Start with little noise on the latents: at the default unit variance they carry nothing and training stalls.
    torch.nn.init.constant_(autoencoder.quant_conv.bias[LATENT_CHANNELS:], -6.0)
    return autoencoder


def make_transformer() -> WanTransformer3DModel:
    """A Wan transformer of 8 blocks, 3 heads of 64: 5.1 M parameters, 1,280 tokens for 17 frames of 64x64."""
    return WanTransformer3DModel(
        patch_size=(1, 1, 1),
        num_attention_heads=3,
        attention_head_dim=64,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        text_dim=TEXT_DIM,
        freq_dim=128,
        ffn_dim=768,
        num_layers=8,
        rope_max_seq_len=256,
    )


def make_scheduler() -> FlowMatchEulerDiscreteScheduler:
    """Euler steps along the straight flow from noise to data, shifted towards noise as in Wan."""
    return FlowMatchEulerDiscreteScheduler(shift=FLOW_SHIFT)


def latent_statistics(autoencoder: AutoencoderKLWan) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation of each latent channel, shaped to broadcast over ``(batch, channels, t, h, w)``."""
    shape = (1, -1, 1, 1, 1)
    mean = torch.tensor(autoencoder.config.latents_mean).view(shape)
    return mean, torch.tensor(autoencoder.config.latents_std).view(shape)


@torch.no_grad()
def _delta_orthogonal_(module: torch.nn.Module) -> None:
    """Start convolutions near an orthogonal map of the newest, central tap (Xiao et al., arXiv 1806.05393, section 4).

    With the default initialisation this autoencoder stays at a constant picture for hundreds of steps.
    """
    for layer in module.modules():
        if isinstance(layer, (torch.nn.Conv2d, torch.nn.Conv3d)):
            weight = layer.weight.mul_(0.3)
            height, width = weight.shape[-2:]
            center = weight[..., height // 2, width // 2]
            newest = center[..., -1] if weight.ndim == 5 else center  # convolutions over time are causal
            newest += torch.nn.init.orthogonal_(torch.empty(weight.shape[:2]))
            if layer.bias is not None:
                layer.bias.zero_()
