import { expect, it } from 'vitest';
import { type Node, port, RULES } from '../../../test/fixtures/rendered-config.ts';
import { checkConfig } from '../check-config.ts';

it.each<[Node, [number, number][], boolean]>([
  [{ published: '8080' }, [[8000, 9000]], true],
  [{ published: '8080-8090' }, [[8000, 9000]], true],
  [{ published: '8990-9001' }, [[8000, 9000]], false],
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
    expect(checkConfig(port(more), { ...RULES, ports }).length === 0).toBe(ok);
  },
);
