"""The command that results/verifier/gsm8k-agreement.json names: `stillroom bench verifier`, from a checkout.

python bench/verifier_agreement.py --data DIR --out results/verifier/gsm8k-agreement.json
"""

import sys

from stillroom.cli import main

if __name__ == "__main__":
    sys.argv[1:1] = ["bench", "verifier"]
    main()
