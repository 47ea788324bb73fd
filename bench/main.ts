import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buildImage, World } from '../test/stand/world.ts';
import { admissions } from './admissions.ts';
import { backup } from './backup.ts';
import { fleet } from './fleet.ts';
import { history } from './history.ts';
import { idle } from './idle.ts';
import { log } from './log.ts';
import { rollout } from './rollout.ts';
import { Sshd } from './sshd.ts';

/** Runs all benchmarks. Each prints ratios of medians of pairs that were measured in turn, or a rate. */
const dir = mkdtempSync(join(tmpdir(), 'chatops-bench-'));
const sshd = new Sshd(join(dir, 'sshd'));
buildImage('chatops-test/web:1', '1');
try {
  await sshd.start();
  {
    await using world = new World();
    await rollout(await world.start(), sshd);
    await admissions(world);
  }
  await log(dir, sshd);
  await idle();
  history(dir);
  await backup();
  await fleet();
} finally {
  await sshd.stop();
  rmSync(dir, { recursive: true });
}
