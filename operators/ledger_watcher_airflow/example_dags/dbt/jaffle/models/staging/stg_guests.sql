select
    guest_id,
    trim(full_name) as guest_name,
    cast(joined_on as date) as joined_on,
    newsletter as wants_newsletter
from {{ ref('kiosk_guests') }}
