import { mkdirSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { freePort } from './stand/host.ts';
import { readPage } from './stand/page.ts';
import { LABEL, slowStack, World, webStack } from './stand/world.ts';

let world: World;
beforeAll(async () => {
  world = await new World().start();
});
afterAll(() => world[Symbol.asyncDispose]());

/** Writes a file of intents on the host, and returns its path. */
function file(name: string, text: string): string {
  const path = join(world.dir, `${name}.yaml`);
  writeFileSync(path, text);
  return path;
}
const chatops = (...args: string[]) => world.host.chatops(args);
const ids = async () => (JSON.parse((await chatops('runs', '--json')).stdout) as { id: string }[]).map(({ id }) => id);

describe('the command line on the host', () => {
  it('runs an intent on the host without its label, ships the files it names, and shows the output live', async () => {
    const port = await freePort();
    world.stack('local-web');
    mkdirSync(join(world.dir, 'stacks'), { recursive: true });
    writeFileSync(join(world.dir, 'stacks', 'compose.yaml'), webStack('chatops-test/web:1', port));
    const intent = file('web', 'label_required: never-set\naction: rollout\nstack: local-web\nsource_dir: stacks\n');
    const done = await world.host.chatops(['run', intent], { cwd: world.dir });
    expect({ exit: done.code, stderr: done.stderr }, done.stdout).toEqual({ exit: 0, stderr: '' });
    expect(done.stdout).toMatch(/Container local-web-web-1 {2}Started/);
    expect(done.stdout.trim().split('\n').at(-1)).toBe('✓ succeeded');
    expect(await readPage(port)).toBe('1');
    expect(statSync(join(world.host.state, 'agent.sock')).mode & 0o777).toBe(0o600);
    expect(await world.host.audit()).toContainEqual(expect.objectContaining({ event: 'run-begun', trust: 'local' }));

    const plan = await chatops('run', file('plan', 'action: rollout\nstack: local-web\n'), '--plan');
    expect({ exit: plan.code, stdout: plan.stdout }).toEqual({ exit: 0, stdout: expect.stringContaining('✓ planned') });
  });

  it('lists runs on the host, newest first, page by page, and shows one run', async () => {
    const all = await ids();
    const { stdout } = await chatops('runs', '--limit', '1');
    expect(stdout).toMatch(new RegExp(`^${all[0]} {2}\\d{4}-\\d\\d-\\d\\d .* planned {6}rollout on local-web\\n$`));
    const next = JSON.parse((await chatops('runs', '--json', '--before', all[0] ?? '')).stdout);
    expect(next.map(({ id }: { id: string }) => id)).toEqual(all.slice(1));
    const one = JSON.parse((await chatops('runs', all[1] ?? '', '--json')).stdout);
    expect(one).toMatchObject({ outcome: 'succeeded', trust: 'local', receipt: { outcome: 'succeeded' } });
    expect(JSON.stringify(one)).not.toContain('"content"');
  });

  it('follows the log of a run that the action started until the run finishes', async () => {
    world.stack('local-job');
    const ship = (version: string) =>
      world.merge({
        'chatops/intents/it.yaml': `label_required: ${LABEL}\naction: rollout\nstack: local-job\nsource_dir: stacks/local-job\n`,
        'stacks/local-job/compose.yaml': slowStack(version),
      });
    await world.deploy(ship('1'), 'it');
    const before = (await ids()).length;
    const job = world.begin(ship('2'), 'it');
    while ((await ids()).length === before) await sleep(50);
    const [run = ''] = await ids();
    const part = await chatops('logs', run);
    expect(part.stdout).not.toContain('✓ succeeded');
    const whole = await chatops('logs', '--follow');
    expect({ exit: whole.code, stdout: whole.stdout.trim().split('\n').at(-1) }).toEqual({
      exit: 0,
      stdout: '✓ succeeded',
    });
    expect((await job.finished).outputs.status).toBe('succeeded');
    const json = (await chatops('logs', run, '--json')).stdout
      .trim()
      .split('\n')
      .map(line => JSON.parse(line));
    expect(json.map(({ n }) => n).slice(0, -1)).toEqual(json.slice(0, -1).map((_, index) => index + 1));
    expect(json.at(-1)).toMatchObject({ type: 'receipt', run, events: json.length - 1 });
  });

  it('cancels a run and rolls back a stack on the host', async () => {
    const intent = file('job', 'action: rollout\nstack: local-job\n');
    writeFileSync(join(world.host.stacks, 'local-job', 'compose.yaml'), slowStack('3'));
    const started = await chatops('run', intent, '--detach');
    const run = started.stdout.trim();
    while (!(await chatops('logs', run)).stdout.includes('Recreate')) await sleep(50);
    const cancelled = await chatops('cancel', run);
    expect({ exit: cancelled.code, stdout: cancelled.stdout }, cancelled.stdout).toEqual({
      exit: 0,
      stdout: expect.stringContaining('✗ cancelled: cancelled.'),
    });
    expect(cancelled.stdout).toContain('Cancelled by');
    expect((await chatops('cancel', run)).stderr).toContain('run-ended');
    const back = await chatops('rollback', 'local-job');
    expect({ exit: back.code, stderr: back.stderr }, back.stdout).toEqual({ exit: 0, stderr: '' });
    expect(back.stdout).toContain('use chatops-test/web:1');
  });

  it('prints the code or the remedy of a wrong call on the host', async () => {
    expect(await chatops('logs', 'no-such-run')).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('run-unknown'),
    });
    expect(await chatops('runs', 'no-such-run')).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('run-unknown'),
    });
    const wrong = file('wrong', 'action: rollout\nstack: nowhere\n');
    expect(await chatops('run', wrong)).toMatchObject({ code: 1, stderr: expect.stringContaining('stack-unknown') });
    expect(await chatops('run', file('typo', 'action: rolout\nstack: x\n'))).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('Write "rollout".'),
    });
    for (const usage of [['cancel'], ['rollback'], ['run']]) expect((await chatops(...usage)).code).toBe(2);
  });
});
