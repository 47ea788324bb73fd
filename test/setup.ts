import { execFileSync } from 'node:child_process';
import { requireCurrentBundles } from '../scripts/source-digest.ts';
import { buildImage } from './stand/world.ts';

/** Checks that the bundles are current and builds the images: tests run `dist/` against a real Docker engine. */
export default function setup(): void {
  requireCurrentBundles('.');
  try {
    execFileSync('docker', ['info'], { stdio: 'ignore', timeout: 10_000 });
  } catch {
    throw new Error('No Docker engine answers. Run "make test", or "scripts/with-engine.sh npx vitest run".');
  }
  for (const version of ['1', '2', '3']) buildImage(`chatops-test/web:${version}`, version);
}
