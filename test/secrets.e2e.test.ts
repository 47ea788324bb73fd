import { readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { LABEL, World } from './stand/world.ts';

const SECRET = 'corr3ct-horse/b&tt=ery';
const LINES =
  'services: {web: {image: "chatops-test/web:1", pull_policy: never, stop_grace_period: 0s, init: true, env_file: [web.env], ';

let world: World;
beforeAll(async () => {
  world = await new World({ config: { verify: { settle: '2s' } } }).start();
});
afterAll(() => world[Symbol.asyncDispose]());

const forms = [SECRET, encodeURIComponent(SECRET), Buffer.from(SECRET).toString('base64'), 'corr3ct', 'ery'];
/** The checked config of a run, which compose reads: it must have the values. */
const CHECKED = /^runs\/[\w-]+\/compose-\d+\/(next|before)\.json$/;
/** Returns the other files of the agent's state folder, including its database, that contain a form of the secret. */
function leaks(): string[] {
  const { state } = world.host;
  const files = readdirSync(state, { recursive: true, withFileTypes: true }).filter(entry => entry.isFile());
  const paths = files.map(({ parentPath, name }) => join(parentPath, name));
  return paths.filter(path => {
    const bytes = readFileSync(path);
    return !CHECKED.test(relative(state, path)) && forms.slice(0, 3).some(form => bytes.includes(form));
  });
}

describe('a secret of an env file', () => {
  it('redacts a secret that a container prints in logs, events, receipts, the audit log and all files of the agent', async () => {
    const shell = [
      'echo $WORD_KEY',
      'echo -n user:$WORD_KEY | busybox base64',
      'echo code=$CODED',
      // As PHP, .NET and a colored log print it.
      String.raw`echo "php=$(echo -n "$WORD_KEY" | busybox sed "s,/,\\/,")"`,
      'echo "net=$CODED" | busybox tr A-F a-f',
      String.raw`echo -e "color=corr3\033[31mct-horse\033[0m/b&tt=ery"`,
      'exit 3',
    ]
      .join('; ')
      .replaceAll('$', '$$$$');
    world.stack('leaky', {
      'compose.yaml': `${LINES}command: [sh, -c, ${JSON.stringify(shell)}]}}\n`,
      'web.env': `WORD_KEY='${SECRET}'\nCODED=${encodeURIComponent(SECRET)}\nMODE=enabled\n`,
    });
    const merge = world.merge({
      'chatops/intents/up.yaml': `label_required: ${LABEL}\naction: rollout\nstack: leaky\ntimeout: 30s\n`,
    });
    const job = await world.deploy(merge, 'up');
    expect(job.outputs.reason, job.log).toBe('service-exited');
    expect(job.log).toMatch(/leaky-web-1 \| \*{22}/);
    for (const name of ['code', 'php', 'net', 'color']) expect(job.log).toMatch(new RegExp(`${name}=\\*{22,}\\s`));
    const { stdout } = await world.host.chatops(['logs', '--json']);
    const audit = JSON.stringify(await world.host.audit());
    for (const output of [job.log, job.summary, JSON.stringify(job.outputs), stdout, audit, world.host.log])
      for (const form of forms.slice(0, 4)) expect(output).not.toContain(form);
    expect(job.log).not.toContain(Buffer.from(`user:${SECRET}`).toString('base64').slice(10, 20));
    expect(leaks()).toEqual([]);
    // Only the agent's user may read the output of a step.
    const runs = join(world.host.state, 'runs');
    const files = readdirSync(runs, { recursive: true, withFileTypes: true }).filter(entry => entry.isFile());
    expect(files.length).toBeGreaterThan(3);
    for (const { parentPath, name } of files) expect(statSync(join(parentPath, name)).mode & 0o077, name).toBe(0);
  });

  it('redacts a secret that compose repeats in an error message', async () => {
    world.stack('wrong', {
      'compose.yaml': `services: {web: {image: "$\{IMAGE_SECRET}", pull_policy: never}}\n`,
      '.env': `IMAGE_SECRET='${SECRET}'\n`,
    });
    const merge = world.merge({
      'chatops/intents/wrong.yaml': `label_required: ${LABEL}\naction: rollout\nstack: wrong\n`,
    });
    const job = await world.deploy(merge, 'wrong');
    expect(job.code).toBe(1);
    expect(job.log).toContain('*'.repeat(22));
    for (const output of [job.log, job.summary, JSON.stringify(job.outputs)]) expect(output).not.toContain(SECRET);
    expect(leaks()).toEqual([]);
  });

  it('warns of a secret that compose would change, without its value', async () => {
    world.stack('dollar', { 'compose.yaml': `${LINES}}}\n`, 'web.env': 'WORD_KEY=P@$$w0rd$HOMELESS\n' });
    const merge = world.merge({
      'chatops/intents/dollar.yaml': `label_required: ${LABEL}\naction: rollout\nstack: dollar\n`,
    });
    const job = await world.deploy(merge, 'dollar');
    expect(job.outputs.status, job.log).toBe('succeeded');
    expect(job.log).toMatch(/web\.env:1: compose reads a "\$" in WORD_KEY as a variable and changes the value\./);
    expect(job.log).not.toContain('HOMELESS');
  });

  it('keeps the agent’s own words and its decisions, although secrets are the same', async () => {
    world.stack('words', {
      'compose.yaml': `${LINES}command: [sh, -c, "echo docker is running; sleep 1000"]}}\n`,
      'web.env':
        'A_PASSWORD=docker\nB_PASSWORD=running\nC_PASSWORD=succeeded\nD_PASSWORD=rollout\nE_PASSWORD=exit code\nF_PASSWORD=words\n',
    });
    const merge = world.merge({
      'chatops/intents/words.yaml': `label_required: ${LABEL}\naction: rollout\nstack: words\n`,
    });
    const job = await world.deploy(merge, 'words');
    expect(job.outputs.status, job.log).toBe('succeeded');
    expect(job.log).toMatch(/rollout .*words/);
    expect(job.log).toContain('words-web-1: running');
    expect(job.log).not.toContain('****');
  });

  it('shows a secret if agent.yaml lists its variable', async () => {
    writeFileSync(
      join(world.host.stacks, 'leaky', 'web.env'),
      `WORD_KEY='${SECRET}'\nCODED=told-word\nPHRASE=good-morning\n`,
    );
    await world.host.stop();
    await world.host.start({ secrets: { show: ['CODED'], hide: ['PHRASE'] } });
    const job = await world.deploy(
      world.merge({
        'chatops/intents/up.yaml': `label_required: ${LABEL}\naction: rollout\nstack: leaky\ntimeout: 31s\n`,
      }),
      'up',
    );
    expect(job.log).toContain('code=told-word');
    expect(job.log).not.toContain(SECRET);
  });
});
