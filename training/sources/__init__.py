"""From a folder as somebody published it to items: one function per source; labels come from its own tables.

Each function says what a patient is there. Reads tables, names and DICOM headers, never pixels.
"""

from training.errors import SourceError
from training.sources.catalog import SOURCES, detect
from training.sources.class_folders import folders, sars_ct, tiles, unlabelled
from training.sources.covid_films import covid_metadata, covid_mpdem
from training.sources.dicom_files import dicom, node
from training.sources.kermany import pediatric_pneumonia
from training.sources.label_table import hello_world, labels_csv
from training.sources.nih_films import nih, nih1000, nih_adleberg, nih_table
from training.sources.rsna_pneumonia import rsna

__all__ = [
    "SOURCES",
    "SourceError",
    "covid_metadata",
    "covid_mpdem",
    "detect",
    "dicom",
    "folders",
    "hello_world",
    "labels_csv",
    "nih",
    "nih1000",
    "nih_adleberg",
    "nih_table",
    "node",
    "pediatric_pneumonia",
    "rsna",
    "sars_ct",
    "tiles",
    "unlabelled",
]
