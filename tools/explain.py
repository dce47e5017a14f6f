"""Show why boxes of photographs score what they do: python tools/explain.py IMAGE..."""

from detector.cli.explain import main

if __name__ == "__main__":
    main()
