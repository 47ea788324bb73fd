import { expect, it } from 'vitest';
import { isStrictlyBelow, parseMountInfo, placeOf, placesWithin } from './host-mounts.ts';

const mounts = parseMountInfo(
  [
    '27 1 254:0 / / rw,relatime - ext4 /dev/vda rw',
    '40 27 8:1 / /srv rw,relatime shared:4 - ext4 /dev/sda1 rw',
    '41 27 254:0 /opt/stacks/a /srv/alias rw - ext4 /dev/vda rw',
    String.raw`42 27 254:0 /opt/with\040blank /mnt/with\040blank rw - ext4 /dev/vda rw`,
    '43 27 8:2 / /mnt/disk rw - ext4 /dev/sdb1 rw',
    '44 27 8:3 /data /mnt/disk rw - ext4 /dev/sdc1 rw',
    '',
  ].join('\n'),
);

it.each([
  ['/', '254:0', '/'],
  ['/opt/stacks/a', '254:0', '/opt/stacks/a'],
  ['/srv/media', '8:1', '/media'],
  ['/srv/alias', '254:0', '/opt/stacks/a'],
  ['/srv/alias/data', '254:0', '/opt/stacks/a/data'],
  ['/srv/aliases', '8:1', '/aliases'],
  ['/mnt/with blank/x', '254:0', '/opt/with blank/x'],
  ['/mnt/disk/x', '8:3', '/data/x'],
])('the place of %s is on the device %s: %s', (path, device, place) => {
  expect(placeOf(path, mounts)).toEqual({ device, path: place });
});

it('a folder gives access to its own place and to the mounts in it', () => {
  expect(placesWithin('/srv', mounts)).toContainEqual({ device: '254:0', path: '/opt/stacks/a' });
  expect(placesWithin('/srv/media', mounts)).toEqual([{ device: '8:1', path: '/media' }]);
});

it('a place is below another one only on the same device, and never below itself', () => {
  const place = (path: string, device = '1:1') => ({ device, path });
  expect(isStrictlyBelow(place('/a/b'), place('/a'))).toBe(true);
  expect(isStrictlyBelow(place('/a/b'), place('/'))).toBe(true);
  expect(isStrictlyBelow(place('/a'), place('/a'))).toBe(false);
  expect(isStrictlyBelow(place('/ab'), place('/a'))).toBe(false);
  expect(isStrictlyBelow(place('/a/b'), place('/a', '1:2'))).toBe(false);
});
