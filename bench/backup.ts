import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Host } from '../test/stand/host.ts';
import { measurePairs, median, report } from './pairs.ts';

interface Receipt {
  outcome: string;
  documents: { steps: { name: string; ms: number }[] }[];
}

const FILES = 20_000;
const LARGE_GIB = 4;
const ROUNDS = 3;

/** Measures a backup of 20,000 small files, and one of 4 GiB, through the agent against bare rsync with the same options. */
export async function backup(): Promise<void> {
  const dir = mkdtempSync(join(tmpdir(), 'chatops-bench-'));
  const host = new Host({ dir: join(dir, 'host'), repository: 'org/homelab' });
  const nas = join(dir, 'nas');
  mkdirSync(nas);
  try {
    await host.start({ backups: { sources: [dir], destinations: [{ path: nas, min_free: '1MiB' }] } });
    await measure('backup of 20,000 files', createSmallFiles(join(dir, 'small')), nas, host);
    rmSync(join(dir, 'small'), { recursive: true });
    await measure(`backup of ${LARGE_GIB} GiB`, createLargeFiles(join(dir, 'large')), nas, host);
    const status = readFileSync(`/proc/${host.child?.pid}/status`, 'utf8');
    const peak = Number(/VmHWM:\s+(\d+)/.exec(status)?.[1]) / 1024;
    console.log(`backup: peak memory of the agent ${peak.toFixed(0)} MB (goal ≤ 96)`);
  } finally {
    await host.stop('SIGKILL');
    rmSync(dir, { recursive: true, force: true });
  }
}

async function measure(name: string, source: string, nas: string, host: Host): Promise<void> {
  let round = 0;
  const otherSteps: number[] = [];
  const pairs = await measurePairs(
    ROUNDS,
    async () => {
      const intent = join(nas, '..', `round${++round}.yaml`);
      writeFileSync(intent, `action: backup\nbackup_type: docker_volumes\nsource: ${source}\ndestination: ${nas}\n`);
      const command = await host.chatops(['run', intent, '--json']);
      const receipt = JSON.parse(command.stdout.trim().split('\n').at(-1) ?? '') as Receipt;
      if (receipt.outcome !== 'succeeded') throw new Error(command.stdout + command.stderr);
      const steps = receipt.documents[0]?.steps ?? [];
      const copy = steps.find(step => step.name === 'copy')?.ms ?? Number.NaN;
      otherSteps.push(steps.reduce((sum, step) => sum + step.ms, 0) - copy);
      rmSync(join(nas, `round${round}`), { recursive: true });
      return copy;
    },
    async () => {
      const started = performance.now();
      const options = ['--archive', '--hard-links', '--numeric-ids', '--one-file-system', '--modify-window=-1'];
      const progress = ['--stats', '--info=progress2,name0', '--no-inc-recursive', '--outbuf=L'];
      execFileSync('rsync', [...options, ...progress, '--', `${source}/`, `${nas}/bare/`], { stdio: 'ignore' });
      const ms = performance.now() - started;
      rmSync(join(nas, 'bare'), { recursive: true });
      return ms;
    },
  );
  console.log(report(`${name}, the copy against bare rsync`, pairs, 'ms', '≤ 1.05'));
  console.log(`${name}: the checks before and the reading back after take ${median(otherSteps).toFixed(0)} ms more`);
}

function createSmallFiles(folder: string): string {
  for (let n = 0; n < FILES; n++) {
    const subfolder = join(folder, String(n % 100));
    if (n < 100) mkdirSync(subfolder, { recursive: true });
    writeFileSync(join(subfolder, `${n}`), `${n}\n`.repeat(100));
  }
  return folder;
}

function createLargeFiles(folder: string): string {
  mkdirSync(folder);
  for (let n = 0; n < LARGE_GIB; n++) {
    const file = join(folder, `${n}`);
    execFileSync('dd', ['if=/dev/urandom', `of=${file}`, 'bs=1M', 'count=1024'], { stdio: 'ignore' });
  }
  return folder;
}
