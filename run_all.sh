#!/usr/bin/env bash
# Sets up the environment once, then runs the study's notebooks through papermill. See --help.
set -euo pipefail
export STUDYKIT_FROM=$PWD  # relative folders are the caller's
case ${STUDYKIT_HOME:-/} in /*) ;; *) export STUDYKIT_HOME=$PWD/$STUDYKIT_HOME ;; esac
cd "$(dirname "${BASH_SOURCE[0]}")"
here=$PWD
env=$here/.venv

usage() {
  cat <<'TEXT'
./run_all.sh                 set up, run every notebook, draw the figures
./run_all.sh --test          set up, run all tests (every notebook compared to what is stored in it, but for timings)
./run_all.sh --lab           set up, open JupyterLab on the first notebook
./run_all.sh --data FILE     set up, advise on rows of your own: which method, how sure, a model to keep
./run_all.sh --predict FILE --model FOLDER   set up, add that model's answers to the rows of a file
./run_all.sh --student FOLDER   set up, write the notebooks for a class there, without outputs; the answers apart
./run_all.sh --help          this text

Read the study:       ./run_all.sh --study minilm            every figure and verdict, from the records
One notebook of it:   ./run_all.sh --study minilm --only 03
Ask about your own:   ./run_all.sh --data tickets.csv --minutes 10
Carry it on:          ./run_all.sh --only 03 --set "arms=[full, bitfit]" "seeds=[0, 1]"

  --study NAME|FILE    the study: a name in params/, or a YAML file of your own     (mini)
  --source hub|FOLDER  where GLUE is; a folder is laid out as the hub's             (as the study says)
  --encoder ID|FOLDER  where the study's encoder, no other, is                      (as the study says)
  --only 03,01         these notebooks only, by number or name                      (all)
  --jobs N             training runs at once, sharing the cores       (as the study says, or is quickest)
  --engine NAME        where they run: local, loky, dask, or a Dask scheduler's address
  --set NAME=VALUE …   other values for the notebooks' parameters, VALUE in YAML: --set "seeds=[0,1]"
  --offline            use no network: not for packages, data or weights

With --data FILE|FOLDER|YAML (CSV, TSV, JSON lines, JSON or Parquet; train and validation; or a task's YAML):
  --minutes N          all that may be spent, after the set-up                      (10)
  --text NAME[,NAME]   the column with the texts, or two of them                    (guessed, and said)
  --label NAME         the column with the labels                                   (guessed, and said)
  --encoder ID|FOLDER  what is tuned                                                (MiniLM)
  --arms full,lora     the methods that are compared                                (full,bitfit,lora,adapter,head)
  --margin M           points within which two are as good as each other            (1)

With --predict FILE (of the same kinds; every column is kept, and the model's answers are added):
  --model FOLDER       the model that --data kept: runs/<name>/model
  --out FILE           what is written, whole or not at all                         (<name>.predicted.<kind>, here)
  --encoder ID|FOLDER  the encoder of a model that needs one                        (where it was)

Records of finished runs are kept: what has a record is read, not trained again. Executed notebooks go to runs/<study>/
as .ipynb and .html, figures to figures/<study>/. The exit status is 0 if every notebook passed.
TEXT
}

say() { printf '%s\n' "$*" >&2; }

new_python() {  # a Python that this project runs on, or nothing
  local name
  for name in python3 python3.13 python3.12 python3.11 python; do
    if "$name" -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null; then
      command -v "$name"; return
    fi
  done
}

pip_section() {  # environment.yml's pip packages, a line each
  sed -n '/- pip:/,$p' environment.yml | sed -n 's/^      - //p'
}

set_up() {
  local wanted python
  wanted="$here $(cat environment.yml lock.txt pyproject.toml | cksum)"
  [ -f "$env/.ready" ] && [ "$(cat "$env/.ready")" = "$wanted" ] && return
  if [ "${offline:-}" ]; then
    say "The environment is not set up yet, and that needs the network: run this once without --offline."
    exit 2
  fi
  say "Setting up the environment in .venv (once) …"
  python=$(new_python)
  if command -v uv >/dev/null; then
    uv venv --quiet --allow-existing --python "${python:-3.11}" "$env"
    pip_section | uv pip install --quiet --python "$env/bin/python" -r - -c lock.txt
  elif [ -n "$python" ]; then
    [ -x "$env/bin/python" ] || "$python" -m venv "$env"
    pip_section >"$env/requirements.txt"
    "$env/bin/python" -m pip install --quiet --disable-pip-version-check -r "$env/requirements.txt" -c lock.txt
  elif command -v conda >/dev/null; then
    PIP_CONSTRAINT=lock.txt conda env create --quiet --yes -p "$env" -f environment.yml
  else
    say "This needs Python 3.11 to 3.13 (with venv), uv or conda, and found none of them."
    exit 2
  fi
  printf '%s\n' "$wanted" >"$env/.ready"
}

mode=run offline=
arguments=()
for argument in "$@"; do
  case $argument in
    --help | -h) usage; exit 0 ;;
    --test) mode=test ;;
    --lab) mode=lab ;;
    --student) mode=student ;;
    --data) mode=data ;;
    --predict) mode=predict ;;
    --offline) offline=1; export HF_HUB_OFFLINE=1 ;;
    *) arguments+=("$argument") ;;
  esac
done

set_up
export PYTHONUTF8=1 TOKENIZERS_PARALLELISM=false PYTHONWARNINGS="${PYTHONWARNINGS:-ignore}"
# Before glibc 2.38 the aligned blocks that PyTorch frees are seldom used again: a process grows by a third more.
export GLIBC_TUNABLES="${GLIBC_TUNABLES:-glibc.malloc.tcache_count=0}"
# Threads that wait for one another soon sleep: spinning on, they keep the others from a core that another program shares.
export OMP_WAIT_POLICY="${OMP_WAIT_POLICY:-PASSIVE}" GOMP_SPINCOUNT="${GOMP_SPINCOUNT:-1000}"
case $mode in
  run) exec "$env/bin/python" -m studykit run ${arguments[@]+"${arguments[@]}"} ;;
  test)
    "$env/bin/python" -m ruff check
    "$env/bin/python" -m mypy
    "$env/bin/python" -m pytest -n auto --maxprocesses 4 --dist loadfile -m "not alone" \
      --nbval --nbval-current-env --nbval-cell-timeout=900 tests studykit notebooks \
      ${arguments[@]+"${arguments[@]}"}
    [ ${#arguments[@]} = 0 ] || exit 0
    exec "$env/bin/python" -m pytest -m alone tests ;;
  data)
    export STUDYKIT_STARTED=$(date +%s)  # minutes that are given count from here
    exec "$env/bin/python" -m studykit data ${arguments[@]+"${arguments[@]}"} ;;
  predict) exec "$env/bin/python" -m studykit predict ${arguments[@]+"${arguments[@]}"} ;;
  student) exec "$env/bin/python" -m studykit student ${arguments[@]+"${arguments[@]}"} ;;
  lab)
    exec "$env/bin/python" -m jupyter lab --notebook-dir=notebooks --LabApp.news_url=None \
      --LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate ${arguments[@]+"${arguments[@]}"} \
      notebooks/00_start_here.ipynb ;;
esac
