"""What the zoo knows of single architectures: settings that a small model of theirs needs, and the exceptions."""

SIGLIP = {
    "model_type": "siglip_vision_model",
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "image_size": 32,
    "patch_size": 16,
    "model_args": {"embed_dim": 32},
}
"""A vision tower in the place of one from timm, which is not installed."""

ROPE_BY_LAYER_TYPE = {
    "full_attention": {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.5},
    "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
}

BOTH_ATTENTIONS = ["full_attention", "sliding_attention"]

OVERRIDES: dict[str, dict[str, object]] = {
    "AriaForConditionalGeneration": {"projector_patch_to_query_dict": {"1225": 128, "4900": 256}},
    "BltForCausalLM": {"encoder_hash_byte_group_vocab": 128},
    "BambaForCausalLM": {"mamba_n_heads": 8, "mamba_d_head": 8},
    "ChameleonForConditionalGeneration": {"vocabulary_map": {"<image>": 100, "IMGIMGA": 1}},
    "CohereCompassForCausalLM": {"layer_types": BOTH_ATTENTIONS, "rope_parameters": ROPE_BY_LAYER_TYPE},
    "CohereCompassForConditionalGeneration": {
        "text_config.layer_types": BOTH_ATTENTIONS,
        "text_config.rope_parameters": ROPE_BY_LAYER_TYPE,
    },
    "Cosmos3EdgeForConditionalGeneration": {"text_config.rope_parameters.mrope_section": [2, 1, 1]},
    "DbrxForCausalLM": {"attn_config.rope_theta": 10000.0, "attn_config.kv_n_heads": 2},
    "DeepseekOcr2ForConditionalGeneration": {"text_config.mlp_layer_types": ["dense", "sparse"]},
    "DiffusionGemmaForBlockDiffusion": {
        "text_config.num_experts": 4,
        "text_config.top_k_experts": 2,
        "text_config.moe_intermediate_size": 32,
    },
    "Dots1ForCausalLM": {"n_routed_experts": 4, "n_shared_experts": 1},
    "Dots3NoteForCausalLM": {"num_key_value_heads": 4, "qk_rope_head_dim": 8},
    "Dots3NoteForConditionalGeneration": {
        "text_config.num_key_value_heads": 4,
        "text_config.qk_rope_head_dim": 8,
        "vision_config.num_hidden_layers": 42,
    },
    "Emu3ForConditionalGeneration": {"vocabulary_map": {"<|extra_200|>": 100, "<image>": 101, "<|image token|>": 102}},
    "Ernie4_5_VLMoeForConditionalGeneration": {"text_config.head_dim": 128},
    "EsmForMaskedLM": {"vocab_size": 128, "mask_token_id": 3, "pad_token_id": 1},
    "EsmcForMaskedLM": {"num_key_value_heads": 4, "vocab_size": 128},
    "FastVlmForConditionalGeneration": {"vision_config": SIGLIP},
    "Gemma3nForCausalLM": {"num_kv_shared_layers": 0, "intermediate_size": [32, 32]},
    "GPTNeoForCausalLM": {"attention_types": [[["global", "local"], 1]]},
    "Glm5NextForConditionalGeneration": {"text_config.num_key_value_heads": 4, "text_config.index_topk": 16},
    "Granite4VisionForConditionalGeneration": {
        "deepstack_layer_map": [[0, 0]],
        "spatial_target_layers": [0],
        "vision_config.hidden_size": 64,
        "downsample_rate": "1/2",
    },
    "GraniteMoeHybridForCausalLM": {"mamba_n_heads": 8, "mamba_d_head": 8},
    "HunYuanDenseV1ForCausalLM": {"head_dim": 8},
    "HunYuanMoEV1ForCausalLM": {"head_dim": 8},
    "HunYuanVLForConditionalGeneration": {"text_config.head_dim": 8},
    "JambaForCausalLM": {"attn_layer_offset": 1, "expert_layer_offset": 1},
    "Lfm2MoeForCausalLM": {"layer_types": ["conv", "full_attention"]},
    "Mamba2ForCausalLM": {"num_heads": 8, "head_dim": 8},
    "MinistralForCausalLM": {"head_dim": 8},
    "Molmo2ForConditionalGeneration": {"adapter_config.vision_feature_layer": [1, 0]},
    "MuseSparkForConditionalGeneration": {"audio_config.num_hidden_layers": 4, "audio_config.hidden_sizes": [32] * 4},
    "NemotronForCausalLM": {"num_key_value_heads": 2},
    "Nemotron3_5TranscribeForConditionalGeneration": {"audio_config.diarization_config.chunk_right_context": 4},
    "NeoMMEForMaskedLM": {"rope_parameters": ROPE_BY_LAYER_TYPE},
    "PerceptionLMForConditionalGeneration": {"vision_config": SIGLIP},
    "ReformerForMaskedLM": {"is_decoder": False, "axial_pos_embds_dim": [16, 16]},
    "ReformerModelWithLMHead": {"is_decoder": True, "axial_pos_embds_dim": [16, 16]},
    "ZambaForCausalLM": {"num_hidden_layers": 3, "layer_types": ["mamba", "hybrid", "hybrid"]},
    "Zamba2ForCausalLM": {"layer_types": ["mamba", "hybrid"]},
}

NOT_BUILDABLE: dict[str, str] = {
    "Gemma3nForConditionalGeneration": "its vision tower needs timm, whose config class it names itself",
    "Gemma4AssistantForCausalLM": "transformers refuses every config of it: all layers share a cache that none makes",
    "Gemma4UnifiedAssistantForCausalLM": "as Gemma4AssistantForCausalLM",
    "InklingForConditionalGeneration": "its vision tower needs scipy; its text model is in the zoo by itself",
    "VibeVoiceAsrForConditionalGeneration": "its acoustic tokenizer cannot be shrunk",
}
"""The architectures that cannot be built small, and why. That they still cannot is tested."""

WITHOUT_OUTPUT_EMBEDDING: dict[str, str | None] = {
    # transformers gives no matrix for get_output_embeddings(); the parameter that is one nevertheless, or None
    "NemotronH_Omni_Reasoning_V3": "language_model.lm_head.weight",  # only its language model answers
    "BlipForConditionalGeneration": None,
    "MusicgenForCausalLM": None,  # a list of heads, one a codebook
    "MusicgenMelodyForCausalLM": None,  # the same
    "PI0ForConditionalGeneration": None,  # a robot's policy
    "PerceiverForMaskedLM": None,  # adds a bias to the product with its embedding
}

NEVER_TIED = frozenset({"DbrxForCausalLM"})
"""Architectures whose config refuses to be tied."""

TIED_UNDER_THE_NAME_OF_THE_HEAD = frozenset({"BltForCausalLM"})
"""Architectures of which, when tied, transformers stores the head and not the embedding."""
