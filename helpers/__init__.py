"""Earshot: from a folder of recordings to an honest audio classifier.

The import order is the reading order; a module imports only modules above it:

environment  installs what a bare Colab or Kaggle kernel lacks
fields       the types that settings are made of
recipe       the network and how it is trained: every ingredient is a key
settings     all settings of a run: types, ranges, defaults
artifacts    files of a run: atomic writes, tables with a schema, digests
tables       tables that people bring: read as text, or refused with the reason
layouts      data folders recognised by what lies in them
sizes        settings that follow from the recordings: clip length, hop, epochs
config       a preset becomes a validated, frozen Config
targets      labels, one or several per recording, and target vectors
relabel      labels judged anew by a person: relabel.csv
stages       what each notebook reads and writes, and whether it must run again
synth        ten everyday sounds from their physics
demo         the embedded demo data set, built from synth
downloads    public sets, downloaded once and checked
mixtures     the multi-label demo: scenes of several of synth's sounds
folders      where the recordings lie: given, made or downloaded
label_table  what tables say of recordings: labels, times, groups, folds
grammars     what file names say of them
sources      finds recordings and their labels
containers   what the bytes of a file say: its container, its codec, whether it is whole
decoder      the one decoder gate: looked at before decoded, checked after
audio        recordings as arrays: load, survey, measure, resample, write
duplicates   the same sound found again: re-encoded, shifted, shortened
clean        quality rules, trim, denoise, normalise, cut into clips
metadata     what is known of recordings without hearing them, as numbers
split        groups, folds, rounds of cross-validation
name_groups  groups that names propose, with their evidence
certificate  the proof that no group crosses the folds
augment      offline copies of the training clips
processes    one process or several that train together, and their CPU threads
features     LogMel, packed waveforms, the feature table
images       spectrogram images: a front end, PNG files, the zip
batches      waveforms, or images, to batches on the device
perturb      augmentation while training, batched on the device
backbones    image networks of the timm library, pretrained where possible
resnet       a residual network that knows which frequency it looks at
models       networks by name
losses       cross-entropy: plain, weighted, focal; one label or several
optimise     learning rates over time, the average of weights, number formats
capture      a whole training step as one CUDA graph
checkpoints  finished networks, and trainings under way, on disk
fit          a step, an epoch, fit
train        cross-validation of a network, in one process or several
preview      what a training step makes of clips, shown before anything is learned
table_network  a dense network on the feature table
classic      models on the feature table: scikit-learn, XGBoost, the dense network
scoring      metrics as plain arithmetic on arrays
intervals    how far a score, or the difference of two, may be off
decisions    from probabilities to answers: recordings, thresholds, mistakes
evaluate     metrics as flat dicts, with an interval on every number
hearing      a whole file: its windows, its events, the files that hold them
predict      the bundle: waveform in, probabilities out
compare      every model by name: trained on the same folds, predicted alike
ledger       what each cleaning step is worth, paired and with an interval
ablation     what each ingredient of the recipe is worth, likewise
audit        shortcuts: what can be told of the class, or of the test side, without listening
suspects     labels in doubt, ranked from out-of-fold probabilities
cautions     what should worry whoever reads a run's scores
row_ids      the rows that a submission may have, and their ids
contract     what a submission must look like: header, rows, shape
submit       predictions to a checked submission
style        the house style of figures
plots        figures of recordings, clips and features
score_plots  figures of training and of scores
audit_plots  the figure of what gives a class away
boards       cards to look at and to listen to
report       one page that a person can send to a colleague
pipeline     runs the notebooks in order, resumes, summarises
"""

__version__ = "0.1.0"
