import { execFileSync } from 'node:child_process';
import { buildImage } from './stand/world.ts';

/** Tests run against a real Docker engine and images made from nothing. */
export default function setup(): void {
  try {
    execFileSync('docker', ['info'], { stdio: 'ignore', timeout: 10_000 });
  } catch {
    throw new Error('No Docker engine answers. Run "make test", or "scripts/with-engine.sh npx vitest run".');
  }
  for (const version of ['1', '2', '3']) buildImage(`chatops-test/web:${version}`, version);
}
