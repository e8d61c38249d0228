import { declareDataset } from './declaration.js';
import { DataError } from './errors.js';
import { OWN_TITLE } from './in-memory.js';
import type { Dataset } from './labelled-images.js';
import { SMALL_IMAGE_PROTOCOL } from './protocols.js';

/** What a caller gives as `OwnData`: a recipe says that there is such data, and with which options they are made. */
export const own = declareDataset({
  name: 'own',
  title: OWN_TITLE,
  source: 'caller',
  hasImageFiles: true,
  // What may be done to images without changing their class is not known.
  protocol: {
    ...SMALL_IMAGE_PROTOCOL,
    augmentation: { cropPadding: 0, randomResizedCrop: false, horizontalFlip: false },
  },
  load: async (): Promise<Dataset> => {
    throw new DataError(
      'DATA_ARGUMENT',
      'own: expected the images, as the option `data` of the call in code, or --data FILE',
    );
  },
  check: null,
  download: null,
});
