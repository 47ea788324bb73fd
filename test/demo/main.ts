import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { committed, labeled, merged } from '../doubles/github-events.ts';
import { freePort } from '../stand/host.ts';
import type { Finished, Job } from '../stand/runner.ts';
import { buildImage, docker, LABEL, type Merge, World } from '../stand/world.ts';

/** Shows the main use once with real programs: merges, a failure, a killed agent, a rollback, a backup and a restore, a refusal, metrics. Exits with 1 if a check fails. */
const IMAGE = 'chatops-demo/web';
const bold = (text: string) => `\u001b[1m${text}\u001b[0m`;
const dim = (text: string) => `\u001b[2m${text}\u001b[0m`;

let number = 0;
function chapter(title: string): void {
  console.log(`\n${bold(`${++number}. ${title}`)}`);
}

function expect(holds: boolean, claim: string): void {
  console.log(`   ${holds ? '✓' : '✗'} ${claim}`);
  if (!holds) throw new Error(`The check failed: ${claim}`);
}

/** Prints the job's log as the runner shows it, without workflow commands. */
function show({ log }: Finished): void {
  const lines = log.split('\n').filter(line => line.trim() !== '' && !/^::(?!group|error)/.test(line));
  for (const line of lines)
    console.log(
      dim(
        `   │ ${line
          .replace(/^::group::/, '▸ ')
          .replace(/^::error title=(.*?)::/, '✗ $1: ')
          .replaceAll('%3A', ':')}`,
      ),
    );
}

const compose = (version: number, port: number) => `services:
  web:
    image: ${IMAGE}:${version}
    pull_policy: never
    init: true
    stop_grace_period: 1s
    ports: ["127.0.0.1:${port}:80"]
    healthcheck: {test: [CMD, wget, -q, -O, /dev/null, "http://127.0.0.1/"], interval: 1s, retries: 10}
  side:
    image: ${IMAGE}:1
    pull_policy: never
    init: true
    stop_grace_period: 0s
    command: [sleep, "100000"]
`;

async function answers(port: number): Promise<string> {
  return (await (await fetch(`http://127.0.0.1:${port}/`)).text()).trim();
}

async function play(world: World): Promise<void> {
  const port = await freePort();
  const deploy = (merge: Merge, changes: Partial<Job> = {}) => world.deploy(merge, 'rollout_stack_web', changes);
  const intent = `# Rollout of the demo stack\nlabel_required: ${LABEL}\naction: rollout\nstack: stack-web\nsource_dir: stacks/web\nverify:\n  http: { url: "http://127.0.0.1:${port}/", body: version, retries: 2 }\n`;

  chapter('An agent with new keys and an empty stack on this host');
  world.stack('stack-web', { '.env': 'SECRET=stays on the host\n' });
  console.log(dim(world.host.log.trim().replace(/^/gm, '   │ ')));

  chapter('A labelled pull request with the stack’s first version is merged');
  const first = await deploy(
    world.merge({ 'chatops/intents/rollout_stack_web.yaml': intent, 'stacks/web/compose.yaml': compose(1, port) }),
  );
  show(first);
  expect(first.outputs.status === 'succeeded', `the job’s status is ${first.outputs.status}`);
  expect((await answers(port)) === 'version 1', `http://127.0.0.1:${port}/ answers "${await answers(port)}"`);

  chapter('The next pull request changes the image and ships another file');
  const second = await deploy(
    world.merge({ 'stacks/web/compose.yaml': compose(2, port), 'stacks/web/conf/site.conf': 'workers 2\n' }),
  );
  show(second);
  expect((await answers(port)) === 'version 2', `http://127.0.0.1:${port}/ answers "${await answers(port)}"`);
  expect(
    existsSync(`${world.host.stacks}/stack-web/conf/site.conf`) && existsSync(`${world.host.stacks}/stack-web/.env`),
    'the new file exists, and so does the host’s own .env',
  );

  chapter('A new version starts but gives a wrong answer: the check fails, and the agent restores the old version');
  const third = await deploy(world.merge({ 'stacks/web/compose.yaml': compose(3, port) }));
  show(third);
  expect(third.outputs.status === 'rolled-back', `the job’s status is ${third.outputs.status}`);
  expect((await answers(port)) === 'version 2', `http://127.0.0.1:${port}/ answers "${await answers(port)}"`);

  chapter('The agent is killed (kill -9) during a rollout; the restarted agent finishes the rollout');
  let killed = false;
  const fourth = await deploy(world.merge({ 'stacks/web/compose.yaml': compose(1, port) }), {
    onLog: chunk => {
      if (killed || !chunk.includes('::group::up')) return;
      killed = true;
      void world.host.stop('SIGKILL').then(() => world.host.start());
    },
  });
  show(fourth);
  expect(killed && fourth.outputs.status === 'succeeded', `the job’s status is ${fourth.outputs.status}`);
  expect((await answers(port)) === 'version 1', `http://127.0.0.1:${port}/ answers "${await answers(port)}"`);

  chapter('A rollback from the host: chatops rollback stack-web');
  const rollback = await world.host.chatops(['rollback', 'stack-web']);
  console.log(dim(rollback.stdout.trim().replace(/^/gm, '   │ ')));
  expect(rollback.code === 0, 'the command exits with 0');
  expect((await answers(port)) === 'version 2', `http://127.0.0.1:${port}/ answers "${await answers(port)}"`);

  chapter('A folder is backed up and read back; a file is lost and restored');
  mkdirSync(`${store}/data`, { recursive: true });
  mkdirSync(`${store}/nas`, { recursive: true });
  writeFileSync(`${store}/data/notes.txt`, 'precious\n');
  await fromHost(
    world,
    'nightly',
    `action: backup\nbackup_type: docker_volumes\nsource: ${store}/data\ndestination: ${store}/nas\nkeep: {last: 3}\n`,
  );
  rmSync(`${store}/data/notes.txt`);
  await fromHost(world, 'restore', `action: restore\nof: nightly\nfrom: ${store}/nas\nto: ${store}/data\n`);
  const notes = readFileSync(`${store}/data/notes.txt`, 'utf8').trim();
  expect(notes === 'precious', `${store}/data/notes.txt contains "${notes}"`);

  chapter('A pull request is refused because its label was set before the last push');
  const early = await deploy(
    world.merge({ 'stacks/web/compose.yaml': compose(1, port) }, head => [labeled(LABEL), committed(head), merged()]),
  );
  show(early);
  expect(early.outputs.reason === 'label-early', `the reason is ${early.outputs.reason}`);
  expect((await answers(port)) === 'version 2', 'version 2 still answers');

  chapter('The agent’s metrics');
  const metrics = (await world.host.metrics())
    .split('\n')
    .filter(line => /^chatops_(intent_requests|intent_duration_seconds_count|runs|build)/.test(line));
  for (const line of metrics) console.log(dim(`   │ ${line}`));
  expect(
    metrics.some(line => line.startsWith('chatops_runs_total{outcome="succeeded"}') && line.endsWith(' 4')),
    'four runs have succeeded since the agent was started again',
  );
}

/** Runs an intent from the agent's own host and prints the output. */
async function fromHost(world: World, name: string, intent: string): Promise<void> {
  writeFileSync(`${store}/${name}.yaml`, intent);
  const command = await world.host.chatops(['run', `${store}/${name}.yaml`]);
  console.log(dim(command.stdout.trim().replace(/^/gm, '   │ ')));
  expect(command.code === 0, `chatops run ${name}.yaml exits with ${command.code}`);
}

const store = mkdtempSync(join(tmpdir(), 'chatops-demo-'));
const backups = { sources: [store], destinations: [{ path: `${store}/nas`, min_free: '1MiB' }] };
const started = performance.now();
for (const version of [1, 2]) buildImage(`${IMAGE}:${version}`, `version ${version}`);
buildImage(`${IMAGE}:3`, 'Internal error');
try {
  await using world = new World({ config: { backups } });
  await play(await world.start());
  chapter('Cleaning up');
} finally {
  rmSync(store, { recursive: true });
  docker('rmi', '--force', `${IMAGE}:1`, `${IMAGE}:2`, `${IMAGE}:3`);
}
console.log(
  `   ✓ agent, containers, images and files of the demo are removed\n\n${bold('Done')} in ${((performance.now() - started) / 1000).toFixed(0)} s.`,
);
