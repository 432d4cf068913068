"""The pages for users of five other systems name every option, file and function of these."""

import re
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "coming-from"
THEIRS = {
    "afa": """
        dist_train_lasc.py dist_train_brats.py gen_attn.py download_pretrained.sh lasc_attn_reg.yaml
        brats_attn_reg.yaml --nproc_per_node --master_port --config --pooling --crop_size --work_dir --backend
        --cpu --checkpoint --use_final --output_dir --cam_npy_dir --attn_npy_dir --scales --save_attn --device
        num_classes slice_split max_iters cam_iters eval_iters samples_per_gpu DATASET_SLICE_SPLIT best.pth
        attention_maps/ cam_npy/ tb_logger imageSlice medical_utils.py medical_base.py get_device setup_seed
        setup_logger cal_eta get_down_size get_seg_loss get_mask_by_radius robust_read_npy load_slice_list
        load_cls_labels_from_filenames MedicalSliceDataset MedicalClsDataset MedicalClsValDataset
    """,
    "amd-grad-cam": """
        NetModule.load_from_checkpoint analyze_prediction_with_gradcam create_grad_cam_visualizer
        GradCAMVisualizer MultiInputGradCAM analyze_sample batch_analyze generate_cam visualize_cam
        save_heatmaps remove_hooks cleanup use_cuda target_class save_dir sample_id num_samples target_layers
        model.predict predicted_class confidence probabilities heatmaps true_class pred_class GradCAM_Example.py
        test_gradcam.py config_bio.toml --config --sample_idx --mode --num_samples --save_dir
        _gradcam_visualization.png _heatmaps summary_visualization.png backbone1 backbone4
    """,
    "mri-saliency": """
        generate_saliency_maps.py run_saliency_generation.py saliency_requirements.txt best_model.pth
        parameters.json --model_path --parameters_path --csv_path --output_dir --max_samples --methods
        --key_slices --device integrated_gradients saliency gradient_shap input_x_gradient deep_lift
        noise_tunnel_ig _summary.png _slice_ _attributions.npy attribution_statistics.csv
        attribution_summary.png
    """,
    "sa-cyclegan": """
        select_cases.py run_inference.py extract_attention.py generate_qualitative_figures.py
        generate_comparison_grid load_model --eval_results --output --n_best --n_worst --n_median
        --n_interesting --n_random --seed --cases --checkpoint --output_dir --device --categories
        --inference_dir --modality n_samples modality_idx case_ids.json inference_{category}.npz
        attention_{category}.npz inputs_a inputs_b generated_a generated_b reconstructed_a reconstructed_b
        case_indices ssim_a2b psnr_a2b per_sample_metrics evaluation_results.json fig_best_comparison
        fig_best_multimodality fig_best_cycle_consistency fig_best_attention_overlay generator_A2B_state_dict
        model_state_dict
    """,
    "vesuvius": """
        vesuvius.predict vesuvius.blend_logits vesuvius.finalize_outputs vesuvius.inference_pipeline
        --model_path --input_dir --output_dir --num_parts --part_id --overlap --batch_size --device
        --skip_empty_patches --disable_tta --sigma_scale --cache_gb --chunk_size --mode --threshold --cache-gb
        --delete-intermediates --input --output --model --gpus --parts-per-gpu --workdir --skip-predict
        --skip-blend --skip-finalize --batch-size Inferer do_tta logits_path coords_path merge_inference_outputs
        parent_dir cache_pool_gb finalize_logits run_pipeline inference.py blending.py finalize_outputs.py
        vesuvius_pipeline.py hf://org/model
    """,
}
"""Page → names of the system's guide."""


@pytest.mark.parametrize("page", sorted(THEIRS))
def test_every_name_of_the_other_system_is_mapped(page):
    rows = [line for line in (FOLDER / f"{page}.md").read_text().splitlines() if line.startswith("| ")]
    left = "\n".join(re.split(r" (?<!\\)\| ", row.strip("| "))[0] for row in rows)
    assert [word for word in THEIRS[page].split() if not re.search(pattern_of(word), left)] == []


def pattern_of(name: str) -> str:
    """Pattern of a whole name: `--input` is not `--input_dir`; `_slice_` is part of a file's name."""
    before = "" if name.startswith("_") else r"(?<![\w-])"
    return before + re.escape(name) + (r"(?![\w-])" if name[-1].isalnum() else "")


def test_there_is_a_page_for_each_system():
    assert {path.stem for path in FOLDER.glob("*.md")} == set(THEIRS)


@pytest.mark.parametrize("page", sorted(THEIRS))
def test_every_row_says_what_takes_its_place(page):
    rows = [line for line in (FOLDER / f"{page}.md").read_text().splitlines() if line.startswith("| ")]
    assert [row for row in rows if "" in [cell.strip() for cell in re.split(r" (?<!\\)\| ", row.strip("| "))]] == []
    assert len(rows) > 20
