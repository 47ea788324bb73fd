import { expect, it } from 'vitest';
import { parseConfig } from './load.ts';

const KEY = 'ed25519:6kpsY+KcUgq+9VB7Ey7F+ZVHdq6+vnuSQh7qaRRG0iw=';
const config = (more: object) => {
  const allow = [{ actions: ['rollout'], stacks: ['*'] }];
  return JSON.stringify({
    agent: 'whitebox',
    trust: [{ name: 'homelab', key: KEY, repository: 'org/homelab', allow }],
    ...more,
  });
};

it.each([
  ['at the top', { shedules: [] }, /the key "shedules" is unknown\. Did you mean "schedules"\?/],
  ['in a list', { hooks: [{ name: 'a', intent: 'b', tokenfile: '/x' }] }, /Did you mean "token_file"\?/],
  [
    'in one of several types',
    { notify: { channels: [{ name: 'team', type: 'discord', url_file: '/x', urlfile: '/x' }] } },
    /notify\.channels\.0: the key "urlfile" is unknown\. Did you mean "url_file"\?/,
  ],
])('suggests the nearest key for an unknown key %s of agent.yaml', (_, more, message) => {
  expect(() => parseConfig(config(more), 'agent.yaml')).toThrow(message);
});

it('names file, line and column of each problem of agent.yaml', () => {
  expect(() => parseConfig('agent: a b\nlisten: nowhere\ntrust: []\n', '/etc/agent.yaml')).toThrow(
    /^\/etc\/agent\.yaml:1:8: agent: .*\n\/etc\/agent\.yaml:2:9: listen: .*\n\/etc\/agent\.yaml:3:8: trust: /,
  );
});
