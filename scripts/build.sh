#!/usr/bin/env bash
# Builds dist/action and dist/agent: tsc strips the types, ncc bundles. Two builds give the same bytes.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH=$PWD/node_modules/.bin:$PATH

rm -rf build dist
tsc --project tsconfig.build.json
# Without it Node reads the emitted files as CommonJS, and ncc exits with 0 and a bundle that throws.
cp package.json build/package.json
for bundle in action/main:action agent/cli:agent; do
  ncc build "build/${bundle%%:*}.js" --out "dist/${bundle##*:}" --license licenses.txt --minify --quiet
done
chmod +x dist/agent/index.js
rm -rf build
node scripts/sbom.ts dist/sbom.cdx.json
node scripts/source-digest.ts
