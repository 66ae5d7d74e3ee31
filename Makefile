PYTHON ?= python3
STAMP := .venv/.installed

# Where this is set, as in many container images, every process compiles torch and transformers anew
# when it starts, which takes twice as much CPU time (docs/lab-book.md).
export PYTHONDONTWRITEBYTECODE =

.DEFAULT_GOAL := help
.PHONY: help demo test docs assets clean

help:  ## Show these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(STAMP)  ## Run the demo on the bundled clips
	HF_HUB_OFFLINE=1 .venv/bin/vqasr demo

test: $(STAMP)  ## Run all tests
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 .venv/bin/python -m pytest -n 3 --dist worksteal

docs: $(STAMP)  ## Build the documentation into build/docs
	HF_HUB_OFFLINE=1 .venv/bin/python -m sphinx -W --keep-going -q docs build/docs

assets: $(STAMP)  ## Rebuild all that ships from ../shared/speech (see recipes/train_codec for the time)
	.venv/bin/vqasr train recipes/train_codec/train.toml
	rm -rf vqasr/assets/vqasr-base*
	cp -r runs/vqasr-base/codec vqasr/assets/vqasr-base
	cp -r runs/vqasr-base/prior vqasr/assets/vqasr-base-prior
	cp -r runs/vqasr-base/adapter-tiny.en vqasr/assets/vqasr-base-whisper-tiny.en
	cp -r runs/vqasr-base/adapter-base vqasr/assets/vqasr-base-whisper-base
	.venv/bin/vqasr train recipes/train_vocoder/vocoder.toml
	cp -r runs/vqasr-base-vocoder/vocoder-int8 vqasr/assets/vqasr-base-vocoder
	.venv/bin/vqasr tokenize ../shared/speech/train-*.parquet -o runs/codes/train -n 4 --speeds 0.9,1.0,1.1 --processes 2
	.venv/bin/vqasr tokenize ../shared/speech/dev-*.parquet -o runs/codes/dev -n 4
	.venv/bin/python recipes/recognition/train_ctc.py --codes runs/codes/train --dev runs/codes/dev \
		--out runs/ctc-small --max-steps 1100 --eval-steps 275 --patience 9
	# Needs flite, espeak-ng, dict-gcide and wordnet-base of Debian.
	.venv/bin/python recipes/recognition/sentences.py --out runs/sentences
	.venv/bin/python recipes/recognition/synthetic_speech.py runs/sentences/*.txt --hours 9.4 \
		--threads 2 --out runs/synthetic.parquet
	.venv/bin/python recipes/recognition/train_small.py recipes/recognition/ctc-small.toml \
		--start runs/ctc-small/final --dropout 0.25 --synthetic runs/synthetic.parquet
	.venv/bin/python recipes/recognition/average_ctc.py runs/ctc-small/final \
		runs/ctc-small-codes/final --share 0.6 --out runs/ctc-averaged
	.venv/bin/python recipes/recognition/fit_speech_head.py --model runs/ctc-averaged \
		--config recipes/train_adapter/tiny.en.toml
	rm -rf vqasr/assets/ctc-small runs/ctc-averaged/speech_head
	cp -r runs/ctc-averaged vqasr/assets/ctc-small
	.venv/bin/python recipes/recognition/train_lm.py --least-count 2 \
		--data ../shared/speech/train*.parquet runs/synthetic.parquet --out vqasr/assets/ctc-small

clean:  ## Remove the virtual environment, caches and build output
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis build *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

INSTALL = -c constraints.txt -e '.[demo,base,train,test,docs]'

# uv takes a quarter of pip's time. It does not read pip's configuration, where an index or a folder
# of wheels may have the CPU build of torch: they are passed on. Where uv fails, pip installs.
pip_option = $$(.venv/bin/pip config get global.$(1) 2> /dev/null)

$(STAMP): pyproject.toml constraints.txt
	@echo "Installing vqasr with its tests, models and documentation: 2.4 GB, half a minute to five minutes"
	$(PYTHON) -m venv .venv
	.venv/bin/pip install -q -c constraints.txt uv && \
		UV_FIND_LINKS="$${PIP_FIND_LINKS:-$(call pip_option,find-links)}" \
		UV_INDEX="$${PIP_EXTRA_INDEX_URL:-$(call pip_option,extra-index-url)}" \
		UV_DEFAULT_INDEX="$${PIP_INDEX_URL:-$(call pip_option,index-url)}" \
		UV_INDEX_STRATEGY=unsafe-best-match UV_SYSTEM_CERTS=1 \
		.venv/bin/uv pip install -q --python .venv/bin/python $(INSTALL) || \
		.venv/bin/pip install -q --no-compile $(INSTALL)
# Of several indexes uv takes the first that has a version, even if only the wheel without libsndfile.
	.venv/bin/python -c 'import soundfile' 2> /dev/null || \
		.venv/bin/pip install -q --force-reinstall --no-deps --no-compile -c constraints.txt soundfile
# Its weights alone are needed (vqasr/evaluation/voices.py), not what the package depends on.
	.venv/bin/pip install -q --no-deps --no-compile -c constraints.txt resemblyzer || \
		echo "Without resemblyzer, the similarity of voices is not measured"
	touch $@
