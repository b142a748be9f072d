"""Real files of every odd kind that pydicom ships: each is read, or refused with the reason that holds for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from models.pixels import Frame, attempted, decoded_equal

File = Callable[[str], Path]

READ = """CT_small MR_small MR_small_RLE MR_small_bigendian MR_small_expb MR_small_implicit MR_small_jp2klossless
    MR_small_jpeg_ls_lossless MR_small_padded JPEG2000 JPGExtended JPEGLSNearLossless_08 JPEGLSNearLossless_16
    J2K_pixelrep_mismatch examples_overlay MR-SIEMENS-DICOM-WithOverlays mlut_18 vlut_04 JPEG-LL JPEG2000_UNC
    JPGLosslessP14SV1_1s_1f_8b 693_UNCR 693_J2KR 693_J2KI RG1_UNCR RG1_J2KR RG1_J2KI RG3_UNCR RG3_J2KR MR2_UNCR
    explicit_VR-UN bad_sequence rtdose_1frame""".split()
REFUSED = {
    "colour": """examples_palette examples_rgb_color SC_rgb SC_rgb_16bit SC_rgb_32bit SC_rgb_rle SC_rgb_jpeg_dcmtk
        SC_rgb_jls_lossy_line SC_ybr_full_422_uncompressed SC_ybr_full_uncompressed SC_rgb_dcmtk_+eb+cy+s4 US1_UNCR
        US1_J2KR OBXXXX1A OBXXXX1A_rle gdcm-US-ALOKA-16 color-pl color-px GDCMJ2K_TextGBR""".split(),
    "multi_frame": """SC_rgb_2frame OBXXXX1A_2frame examples_ybr_color color3d_jpeg_baseline emri_small
        eCT_Supplemental rtdose""".split(),
    "truncated": ["MR_truncated"],
    # JPEG extended of 12 bits that no decoder here takes
    "undecodable": ["JPEG-lossy", "badVR"],
    # a codestream with the bytes of a delimiter where its width should be
    "too_large": ["JPEG2000-embedded-sequence-delimiter"],
    "unsupported": ["image_dfl", "liver_1frame", "meta_missing_tsyntax"],
    "no_pixels": """test-SR reportsi waveform_ecg rtplan rtplan_truncated UN_sequence priv_SQ nested_priv_SQ
        empty_charset_LEI no_meta_group_length""".split(),
    "not_dicom": ["no_meta", "ExplVR_LitEndNoMeta", "rtstruct"],
}


@pytest.mark.parametrize("name", READ)
def test_it_is_read(pydicom_file: File, name: str) -> None:
    found = attempted(pydicom_file(f"{name}.dcm"))
    assert isinstance(found, Frame)
    assert float(found.pixels.max()) - float(found.pixels.min()) > 0.5


@pytest.mark.parametrize(("code", "name"), [(code, name) for code, names in REFUSED.items() for name in names])
def test_it_is_refused_with_its_reason(pydicom_file: File, code: str, name: str) -> None:
    found = attempted(pydicom_file(f"{name}.dcm"))
    assert not isinstance(found, Frame)
    assert found.code == code


SAME = [
    ("RG1_UNCR", "RG1_J2KR"),
    ("RG3_UNCR", "RG3_J2KR"),
    ("MR2_UNCR", "MR2_J2KR"),
    ("MR_small", "MR_small_RLE"),
    ("MR_small", "MR_small_jp2klossless"),
    ("MR_small", "MR_small_jpeg_ls_lossless"),
    ("MR_small", "MR_small_bigendian"),
    ("MR_small", "MR_small_padded"),
    ("emri_small", "emri_small_RLE"),
    ("emri_small", "emri_small_jpeg_ls_lossless"),
]


@pytest.mark.parametrize(("plain", "encoded"), SAME)
def test_every_lossless_encoding_of_a_real_image_is_the_same_to_the_bit(
    pydicom_file: File, plain: str, encoded: str
) -> None:
    assert decoded_equal(pydicom_file(f"{plain}.dcm"), pydicom_file(f"{encoded}.dcm"))
