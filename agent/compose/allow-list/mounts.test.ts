import { expect, it } from 'vitest';
import { type Node, network, port, RULES } from '../../../test/fixtures/rendered-config.ts';
import { checkConfig } from '../check-config.ts';

it.each<[Node, [number, number][], boolean]>([
  [{ published: '8080' }, [[8000, 9000]], true],
  [{ published: '8080-8090' }, [[8000, 9000]], true],
  [{ published: '8990-9001' }, [[8000, 9000]], false],
  [{ published: '8100-8200' }, [[8000, 9000]], false],
  [{ published: '22', mode: 'host' }, [[8000, 9000]], false],
  [{ published: '0x16' }, [[1, 65_535]], false],
  [{ published: '70000' }, [[1, 65_535]], false],
  [
    { published: '53' },
    [
      [8000, 9000],
      [53, 53],
    ],
    true,
  ],
  [{ published: '0' }, [[8000, 9000]], false],
  [{}, [[8000, 9000]], false],
  [{}, [[1, 65_535]], true],
])(
  'a service may publish ports of the host’s ranges, and those that the engine chooses if all are allowed: %j %j',
  (more, ports, ok) => {
    expect(checkConfig(port(more), { ...RULES, ports, agentPorts: [8150] }).length === 0).toBe(ok);
  },
);

it('no grant opens the ports of the agent', () => {
  const [found, ...others] = checkConfig(port({ published: '8150' }), {
    ...RULES,
    agentPorts: [8150],
    grants: ['ports'],
  });
  expect(others).toEqual([]);
  expect(found).toMatchObject({ message: expect.stringContaining('a port of the agent'), opens: [] });
});

it.each([
  ['172.30.0.0/24', true],
  ['192.168.7.0/24', false],
  ['192.168.0.0/16', false],
  ['192.168.7.128/25', false],
  ['192.168.8.0/24', true],
  ['fd12:3456:789a::/64', true],
  ['fd00:1::/64', false],
  ['172.30.0.0/8', false],
  ['999.1.1.1/24', false],
])('a bridge may take a private subnet that is none of the host’s own: %s', (subnet, ok) => {
  const rules = { ...RULES, hostNetworks: ['192.168.7.5/24', 'fd00:1::5/64', 'fe80::1/64'] };
  expect(checkConfig(network({ ipam: { config: [{ subnet }] } }), rules).length === 0).toBe(ok);
});
