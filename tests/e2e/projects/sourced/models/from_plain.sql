select id from {{ source('raw', 'plain') }}
