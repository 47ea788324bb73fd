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

it.each([
  ['a container without its stack', { server: 'db', password_file: '/x' }, /databases\.0\.stack: Expected "stack"/],
  ['a stack that is a path', { server: 'db', stack: '../x', password_file: '/x' }, /databases\.0/],
])('refuses a password for %s', (_, database, message) => {
  expect(() => parseConfig(config({ backups: { databases: [database] } }), 'agent.yaml')).toThrow(message);
});

it('accepts a password for a container of a stack, a container outside of compose, and a socket', () => {
  const password_file = '/x';
  const databases = [
    { server: 'a', stack: 'shop', password_file },
    { server: 'b', stack: false, password_file },
    { server: '/run/mysqld', password_file },
    { server: 'c', user: 'keeper' },
  ];
  expect(parseConfig(config({ backups: { databases } }), 'agent.yaml').backups.databases).toEqual(databases);
});

it('names file, line and column of each problem of agent.yaml', () => {
  expect(() => parseConfig('agent: a b\nlisten: nowhere\ntrust: []\n', '/etc/agent.yaml')).toThrow(
    /^\/etc\/agent\.yaml:1:8: agent: .*\n\/etc\/agent\.yaml:2:9: listen: .*\n\/etc\/agent\.yaml:3:8: trust: /,
  );
});
