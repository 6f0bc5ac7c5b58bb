select * from {{ ref('mb_partial') }}
