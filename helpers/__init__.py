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
mixtures     the multi-label demo: scenes of several of synth's sounds
targets      labels, one or several per recording, and target vectors
label_table  labels from a table, matched with files
sources      finds recordings and their labels
decoder      the one decoder gate: looked at before decoded, checked after
audio        recordings as arrays: load, survey, measure, resample, write
clean        quality rules, trim, denoise, normalise, cut into clips
split        groups, folds, the split certificate
augment      waveform augmentation: offline copies, and batched in training
features     LogMel, packed waveforms, the feature table
images       spectrogram images: a front end, PNG files, the zip
batches      memory-mapped waveforms, or images, to batches on the device
backbones    image networks of the timm library, pretrained where possible
models       networks by name
losses       cross-entropy: plain, weighted, focal; one label or several
train        a step, an epoch, fit; weights in and out
table_network  a dense network on the feature table
classic      models on the feature table: scikit-learn, XGBoost, the dense network
scoring      metrics as plain arithmetic on arrays
decisions    from probabilities to answers: recordings, thresholds, mistakes
evaluate     metrics as flat dicts, with an interval on every number
predict      the bundle: waveform in, probabilities out
compare      every model by name: trained on the same folds, predicted alike
submit       predictions to a checked submission
style        the house style of figures
plots        figures of recordings, clips and features
score_plots  figures of training and of scores
boards       cards to look at and to listen to
report       one page that a person can send to a colleague
pipeline     runs the notebooks in order, resumes, summarises
"""

__version__ = "0.1.0"
