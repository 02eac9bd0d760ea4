for i in 1 2 3 4 5 6; do pytest -q tests/daemon/test_life.py -k "again_and_again" 2>&1 | tail -1; done
