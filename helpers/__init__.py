"""Earshot: from a folder of recordings to an honest audio classifier.

The import order is the reading order; a module imports only modules above it:

environment  installs what a bare Colab or Kaggle kernel lacks
settings     all settings of a run: types, ranges, defaults
config       a preset becomes a validated, frozen Config
artifacts    files of a run: atomic writes, tables with a schema, digests
stages       what each notebook reads and writes, and whether it must run again
synth        ten everyday sounds from their physics
demo         the embedded demo data set, built from synth
downloads    public sets, downloaded once and checked
sources      finds recordings and their labels
decoder      the one decoder gate: looked at before decoded, checked after
audio        recordings as arrays: load, survey, measure, resample, write
clean        quality rules, trim, denoise, normalise, cut into clips
split        groups, folds, the split certificate
augment      waveform augmentation: offline copies, and batched in training
features     LogMel, the feature table, spectrogram images
batches      memory-mapped waveforms to batches on the device
models       networks by name
train        a step, an epoch, fit; weights in and out
classic      scikit-learn and XGBoost models on the feature table
evaluate     metrics as flat dicts, with an interval on every number
predict      the bundle: waveform in, probabilities out
compare      every model by name: trained on the same folds, predicted alike
submit       predictions to a checked submission
style        the house style of figures
plots        figures from arrays and tables
boards       cards to look at and to listen to
report       one page that a person can send to a colleague
pipeline     runs the notebooks in order, resumes, summarises
"""

__version__ = "0.1.0"
