// Folders as people have them: names, strangers, links, rights.
import { execFileSync } from 'node:child_process';
import { chmod, mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { listClassFolders, surveyClassFolders } from '../../lib/data/class-folders.js';
import { unprivileged } from '../support/unprivileged.js';

let dir: string;
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'layerwise-classes-'));
});
afterEach(() => rm(dir, { recursive: true }));

/** Empty files: names that tell what they are are not opened. */
async function lay(...paths: readonly string[]): Promise<void> {
  for (const path of paths) {
    await mkdir(join(dir, path, '..'), { recursive: true });
    await writeFile(join(dir, path), '');
  }
}

const SET = ['train/a/1.jpg', 'train/b/1.jpg', 'test/a/1.jpg', 'test/b/1.jpg'] as const;
const options = (signal?: AbortSignal) => ({ dataDir: dir, testNames: ['test', 'val'] as const, signal });
const list = (signal?: AbortSignal) => listClassFolders(options(signal));
const refusal = (code: string, words: RegExp) => ({ name: 'DataError', code, message: expect.stringMatching(words) });

describe('names', () => {
  const COMPOSED = 'caf\u00e9';
  const DECOMPOSED = 'cafe\u0301';

  it('of classes match between train and test whatever their Unicode form, and are ordered in the composed one', async () => {
    await lay(`train/${DECOMPOSED}/1.jpg`, 'train/cafz/1.jpg', `test/${COMPOSED}/2.jpg`, 'test/cafz/2.jpg');
    const { classes, train, test } = await list();
    // Composed, \u00e9 comes after z; decomposed, e comes before it.
    expect(classes).toEqual(['cafz', COMPOSED]);
    expect(train).toMatchObject({ folders: ['cafz', DECOMPOSED], names: ['1.jpg', '1.jpg'] });
    expect(test.folders).toEqual(['cafz', COMPOSED]);
    expect(Array.from(test.labels)).toEqual([0, 1]);
  });

  it('of two classes that differ in nothing but their Unicode form are refused', async () => {
    await lay(...SET, `train/${DECOMPOSED}/1.jpg`, `train/${COMPOSED}/1.jpg`, `test/${COMPOSED}/1.jpg`);
    await expect(list()).rejects.toMatchObject(
      refusal('DATA_CORRUPT', /the same class 'caf\u00e9', written in two Unicode forms/),
    );
  });

  it.skipIf(process.platform !== 'linux')('that are not UTF-8 are refused, their bytes escaped', async () => {
    await lay(...SET);
    const latin1 = (path: string) => Buffer.concat([Buffer.from(`${dir}/`), Buffer.from(path, 'latin1')]);
    await writeFile(latin1('train/a/caf\xe9.jpg'), '');
    await expect(list()).rejects.toMatchObject(
      refusal('DATA_UNSUPPORTED', /train\/a\/caf\\xe9\.jpg has a name that is not UTF-8/),
    );
    await mkdir(latin1('test/na\xefve'));
    await expect(list()).rejects.toMatchObject(
      refusal('DATA_UNSUPPORTED', /2 things are wrong.*test\/na\\xefve has a name/),
    );
  });

  it('with control characters are escaped in messages', async () => {
    await lay(...SET, 'train/a/two\nlines.csv');
    await expect(list()).rejects.toMatchObject(
      refusal('DATA_UNSUPPORTED', /^[^\n]*two\\x0alines\.csv is not read[^\n]*$/),
    );
  });
});

describe('files', () => {
  it('of the system and hidden ones are passed over and counted', async () => {
    await lay(...SET);
    const { passedOver: none } = await surveyClassFolders(options());
    const files = ['Thumbs.db', 'ehthumbs.db', 'Desktop.ini', '.DS_Store', '._1.jpg', 'Icon\r'];
    await lay(...files.map((name) => `train/a/${name}`), 'train/.hidden/1.jpg', 'test/thumbs.db');
    await lay(
      ...['__MACOSX', '@eaDir', 'lost+found', '$RECYCLE.BIN'].map((name) => `train/${name}/x`),
      'test/b/@eaDir/1.jpg',
    );
    const { passedOver, problems, classes, train, test } = await surveyClassFolders(options());
    expect([none, passedOver]).toEqual([0, 13]);
    expect({ problems, classes, images: [train.count, test.count] }).toEqual({
      problems: [],
      classes: ['a', 'b'],
      images: [2, 2],
    });
  });

  it('that are none of these are named all at once', async () => {
    await lay(
      ...SET,
      'train/labels.csv',
      'train/a/notes.txt',
      'train/b/1.webp',
      'test/b/inner/1.jpg',
      'test/x.md',
      'test/a/1.jpg.part',
    );
    await lay('train/b/2.gif');
    await expect(list()).rejects.toMatchObject(
      refusal('DATA_UNSUPPORTED', /7 things are wrong.*labels\.csv is no folder.*; and 2 more/),
    );
    const { problems } = await surveyClassFolders(options());
    expect(
      problems.map(({ message }) =>
        message.slice(dir.length + 1).replace(/( is (?:no|a) folder| is not read).*/, '$1'),
      ),
    ).toEqual([
      'train/labels.csv is no folder',
      'train/a/notes.txt is not read',
      'train/b/1.webp is not read',
      'train/b/2.gif is not read',
      'test/x.md is no folder',
      'test/a/1.jpg.part is not read',
      'test/b/inner is a folder',
    ]);
  });

  it('of JPEG and PNG by their name are not opened, those without an extension are looked into', async () => {
    await lay(...SET, 'train/a/2.JPEG', 'train/a/3.jfif', 'train/a/4.PNG');
    await writeFile(join(dir, 'train/a/5'), Uint8Array.of(0xff, 0xd8, 0xff, 0xe0));
    expect((await list()).train.names).toEqual(['1.jpg', '1.jpg', '2.JPEG', '3.jfif', '4.PNG', '5']);
    await writeFile(join(dir, 'train/a/README'), 'all about a');
    await expect(list()).rejects.toMatchObject(
      refusal('DATA_UNSUPPORTED', /a\/README is text: expected a JPEG or PNG image/),
    );
  });
});

describe('what cannot be read is said as what it is:', () => {
  it('no such directory, and a file in place of one', async () => {
    await lay('file');
    await expect(listClassFolders({ ...options(), dataDir: join(dir, 'none') })).rejects.toMatchObject(
      refusal('DATA_NOT_FOUND', /there is no folder .*none$/),
    );
    await expect(listClassFolders({ ...options(), dataDir: join(dir, 'file') })).rejects.toMatchObject(
      refusal('DATA_UNREADABLE', /file cannot be read: expected a folder, got a file \(ENOTDIR\)/),
    );
    await lay('train', 'test/a/1.jpg');
    await expect(list()).rejects.toMatchObject(
      refusal('DATA_UNREADABLE', /train cannot be read: expected a folder, got a file/),
    );
  });

  it('links that loop, lead nowhere, or lead to a pipe', async () => {
    await lay(...SET);
    await symlink('loop.jpg', join(dir, 'train/a/loop.jpg'));
    await expect(list()).rejects.toMatchObject(
      refusal('DATA_UNREADABLE', /a\/loop\.jpg cannot be read: its symbolic links form a loop/),
    );
    await rm(join(dir, 'train/a/loop.jpg'));
    await symlink('nowhere.jpg', join(dir, 'train/a/gone.jpg'));
    await expect(list()).rejects.toMatchObject(refusal('DATA_NOT_FOUND', /there is no file .*a\/gone\.jpg/));
    await rm(join(dir, 'train/a/gone.jpg'));
    if (process.platform !== 'win32') {
      execFileSync('mkfifo', [join(dir, 'pipe')]);
      await symlink('../../pipe', join(dir, 'train/a/pipe.jpg'));
      await expect(list()).rejects.toMatchObject(refusal('DATA_UNSUPPORTED', /pipe\.jpg is a device, pipe or socket/));
      await rm(join(dir, 'train/a/pipe.jpg'));
    }
    await rm(join(dir, 'test'), { recursive: true });
    await symlink('test', join(dir, 'test'));
    await expect(list()).rejects.toMatchObject(
      refusal('DATA_UNREADABLE', /test cannot be read: its symbolic links form a loop/),
    );
  });

  it('links to images are taken', async () => {
    await lay(...SET, 'elsewhere/x.jpg');
    await symlink('../../elsewhere/x.jpg', join(dir, 'train/a/2.jpg'));
    expect((await list()).train.names).toEqual(['1.jpg', '1.jpg', '2.jpg']);
  });

  it('folders that this user may not list, each of them', async () => {
    await lay(...SET);
    await chmod(dir, 0o755);
    for (const folder of ['train/a', 'test/b']) await chmod(join(dir, folder), 0);
    await unprivileged(() =>
      expect(list()).rejects.toMatchObject(
        refusal(
          'DATA_UNREADABLE',
          /2 things are wrong.*train\/a cannot be read: permission denied \(EACCES\).*test\/b/,
        ),
      ),
    );
    for (const folder of ['train/a', 'test/b']) await chmod(join(dir, folder), 0o755);
  });
});

it('stops listing when it is cancelled in the middle', async () => {
  await lay(...Array.from({ length: 300 }, (_, i) => [`train/${i}/1.jpg`, `test/${i}/1.jpg`]).flat());
  let asked = 0;
  const signal = {
    reason: 'enough',
    get aborted() {
      return ++asked > 20;
    },
  } as AbortSignal;
  await expect(list(signal)).rejects.toMatchObject({ code: 'DATA_CANCELLED', cause: 'enough' });
  // Those under way look once more, and no folder is begun.
  expect(asked).toBeLessThan(100);
});
